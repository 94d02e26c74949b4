"""The library in an application, for pages of the origins in `PAGES` that say who they are."""

from __future__ import annotations

import os

from fastapi import FastAPI

from forebay import Access, Forebay, NotAuthenticated, Principal


def authorise(access: Access) -> Principal:
    """Ann, by her cookie or her token; whoever else is refused, or breaks it."""
    headers = dict(access.context["headers"])
    told = headers.get(b"cookie", b"") + headers.get(b"authorization", b"")
    if b"trouble" in told:
        raise ValueError("a fault of the application")
    if b"ann" not in told:
        raise NotAuthenticated("Sign in first.")
    return Principal("ann")


uploads = Forebay(
    "data",
    authorise=authorise,
    allow_origin=os.environ["PAGES"].split(","),
    max_size=3_000_000,
    durability="relaxed",
)
app = FastAPI(lifespan=uploads.lifespan)
app.mount("/files", uploads.files)
app.mount("/uploads", uploads.resumable)
