"""Only files are mounted, and no resumable uploads."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Mount

from forebay import Forebay

uploads = Forebay("data", durability="relaxed")
app = Starlette(lifespan=uploads.lifespan, routes=[Mount("/files", uploads.files)])
