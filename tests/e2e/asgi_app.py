"""`app`: what `forebay serve` serves, for any ASGI server. Settings come from the environment."""

from __future__ import annotations

import os

from forebay.config import load
from forebay.engine.engine import Engine
from forebay.http.app import ServerApp
from forebay.http.server import make_store

settings = load({}, os.environ, os.getcwd()).settings
app = ServerApp(Engine(settings, make_store(settings)), listening_on_loopback=True)
