"""Our application for `forebay-asgi`: served by uvicorn as it comes, without our protocol class."""

import os

from forebay.backends import make_store
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.http.allocator import keep_freed_memory
from forebay.http.app import ServerApp
from forebay.model import Durability

keep_freed_memory()  # as Forebay(tune_allocator=True)
settings = Settings(dir=os.environ["STORE"], durability=Durability(os.environ["DURABILITY"]))
app = ServerApp(Engine(settings, make_store(settings)), listening_on_loopback=True)
