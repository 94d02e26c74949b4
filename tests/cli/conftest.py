"""The fixtures of `e2e`."""

from __future__ import annotations

from e2e.conftest import server, start_server, store_folder

__all__ = ["server", "start_server", "store_folder"]
