"""Web pages of another origin than the server's: what they are made of, and who serves them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from javascript import tus_bundle, uppy_bundle

HERE = Path(__file__).parent


class Pages:
    """Serves a page with the clients; `url` is also its origin."""

    def __init__(self) -> None:
        files = {
            "/": ("text/html; charset=utf-8", (HERE / "page.html").read_bytes()),
            "/page.js": ("text/javascript", (HERE / "page.js").read_bytes()),
            "/tus.min.js": ("text/javascript", tus_bundle()),
            "/uppy.min.js": ("text/javascript", uppy_bundle()),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, body = files.get(self.path, ("text/plain", b""))
                self.send_response(200 if self.path in files else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
