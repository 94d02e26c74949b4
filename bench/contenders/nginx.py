"""nginx with its WebDAV module: PUT into a temporary file, then a rename.

`nginx` has its default body buffer (16 KiB), `nginx-tuned` one of 1 MiB per connection.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import Contender, SmallRequest, printed_line
from bench.job import Step
from bench.paths import program

CONFIG = """
daemon off;
{user}
pid {base}/nginx.pid;
error_log {base}/nginx-error.log warn;
worker_processes {workers};
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    {tuning}
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/unused; fastcgi_temp_path {base}/unused;
    uwsgi_temp_path {base}/unused; scgi_temp_path {base}/unused;
    server {{
        listen 127.0.0.1:{port} {tls};
        {certificate}
        root {folder};
        location / {{ dav_methods PUT DELETE; dav_access user:rw group:r all:r; }}
    }}
}}
"""


@dataclass
class Nginx(Contender):
    family = "nginx"
    language = "C"
    tuning = ""
    abilities = frozenset({"chunked", "tls", "download"})

    def durability(self) -> str:
        return "none (page cache), renamed into place"

    def missing(self) -> str | None:
        binary = program("nginx")
        if binary is None:
            return "no nginx on PATH: install the distribution's nginx"
        return None

    def version(self) -> str:
        return printed_line(program("nginx") or "nginx", "-v").removeprefix("nginx version: ")

    def command(self, folder: Path, port: int) -> list[str]:
        base = folder.parent
        certificate = self.options.certificate
        text = CONFIG.format(
            base=base,
            folder=folder,
            port=port,
            tuning=self.tuning,
            user="user root;" if os.geteuid() == 0 else "",
            workers=1 if self.options.one_worker else "auto",
            tls="ssl" if certificate else "",
            certificate=(
                f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};"
                if certificate
                else ""
            ),
        )
        config = base / "nginx.conf"
        config.write_text(text)
        return [program("nginx") or "nginx", "-p", str(base), "-c", str(config)]

    def upload(self, name: str, size: int) -> tuple[Step, ...]:
        return (Step("PUT", f"/{name}", body=True, framing=self.options.framing),)

    def small(self, size: int) -> SmallRequest:
        return SmallRequest("PUT", "/small-%d")

    def download_path(self, name: str, stored: Path) -> str:
        return f"/{name}"


@dataclass
class NginxTuned(Nginx):
    family = "nginx-tuned"
    tuning = "client_body_buffer_size 1m;"
