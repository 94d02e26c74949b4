"""The fixtures of `e2e`."""

from __future__ import annotations

from e2e.conftest import _reused, reuse_server, server, start_any, start_server, store_folder

__all__ = ["_reused", "reuse_server", "server", "start_any", "start_server", "store_folder"]
