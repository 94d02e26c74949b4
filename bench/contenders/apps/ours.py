"""Our application for `forebay-asgi`: served by uvicorn as it comes, without our protocol class."""

import os

from forebay.http.app import create_app

app = create_app(os.environ["STORE"], durability=os.environ["DURABILITY"])
