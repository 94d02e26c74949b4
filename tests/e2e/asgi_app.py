"""`app`: what `forebay serve` serves, for any ASGI server. Settings come from the environment."""

from __future__ import annotations

import os

from forebay.backends import make_sessions, make_store
from forebay.config import load
from forebay.engine.engine import Engine
from forebay.http.app import ServerApp

settings = load({}, os.environ, os.getcwd()).settings
store = make_store(settings)
engine = Engine(settings, store)


async def start() -> None:
    await engine.open_uploads(make_sessions(settings, store))


app = ServerApp(
    engine, listening_on_loopback=True, on_startup=start, on_shutdown=engine.close_uploads
)
