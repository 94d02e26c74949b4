"""An application that a proxy serves under a prefix, with middleware of the usual kind."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware

from forebay import Forebay

uploads = Forebay("data", durability="relaxed")
app = FastAPI(lifespan=uploads.lifespan, root_path="/api")
app.mount("/way/down/resumable", uploads.resumable)
app.mount("/files", uploads.files)


async def passing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
