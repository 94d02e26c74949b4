"""The fixtures of `e2e`, for partial uploads."""

from e2e.conftest import _reused, reuse_server, start_any, start_server, store_folder

__all__ = ["_reused", "reuse_server", "start_any", "start_server", "store_folder"]
