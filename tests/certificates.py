"""Certificates that tests make for their servers."""

from __future__ import annotations

import subprocess
from pathlib import Path

from durability.missing import need, no_program


def self_signed(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """`key.pem` and `cert.pem` in `folder`, in the place of those that are there."""
    need(no_program("openssl"))
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate
