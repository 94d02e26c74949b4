"""An application that knows nothing of Forebay but one line: its files are written once.

uvicorn --http forebay.http.direct:DirectProtocol examples.uploadfile_app:app
"""

import hashlib
from typing import Annotated

from fastapi import FastAPI, Form, UploadFile

from forebay import GB, Forebay

uploads = Forebay("data/", max_size=5 * GB)
app = FastAPI(lifespan=uploads.lifespan)
app.add_middleware(uploads.form_middleware)  # the one line


@app.post("/form")
async def form(title: Annotated[str, Form()], clip: UploadFile) -> dict[str, object]:
    digest = hashlib.sha256()
    while piece := await clip.read(1 << 20):
        digest.update(piece)
    return {
        "title": title,
        "filename": clip.filename,
        "type": clip.content_type,
        "size": clip.size,
        "sha256": digest.hexdigest(),
    }
