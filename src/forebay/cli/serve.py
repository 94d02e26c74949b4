"""`forebay serve`."""

from __future__ import annotations

import ipaddress
import os
import sys
from typing import Any

from forebay.cli.options import (
    SettingsCommand,
    folder_in_use,
    loader,
    setting_params,
    settings_loader,
)
from forebay.config import Settings
from forebay.errors import ConfigError
from forebay.standard_error import say
from forebay.trusted_paths import check_modules, may_be_uploaded

_HELP = """Receive uploads into DIR over HTTP, and serve them back.

DIR is "data" when it is not given. Files are sent to /files/ with any client; resumable
uploads (tus, IETF) are made at /uploads/.
"""

_EXAMPLES = """\b
Examples:
  Receive into ./uploads, then send a file from another terminal:
    forebay serve uploads
    curl -T big.iso http://127.0.0.1:8000/files/
  Take files of up to 10 GB and images only, keeping 5 GB of the disk free:
    forebay serve uploads --max-size 10GB --accept-types 'image/*' --min-free 5GB
  Serve a network over TLS, with four processes:
    forebay serve /srv/files --host 0.0.0.0 --port 8443 --workers 4 \\
      --ssl-certfile cert.pem --ssl-keyfile key.pem
"""


def _serve(**params: Any) -> None:
    if refusal := platform_refusal(sys.platform):
        raise ConfigError(refusal)
    load_all = loader(params)
    loaded = load_all()
    settings, load = loaded.settings, settings_loader(params)
    check_modules(settings.dir)
    check_tls_files(settings)
    if loaded.unread is not None:
        say(
            f"forebay: {loaded.unread} is not read: it lies in the folder to be served, where "
            "clients store files. Move it, or name it by --config if it is yours."
        )
    if warning := exposure_warning(settings):
        say(f"forebay: {warning}")
    from forebay.http.server import run

    with folder_in_use(settings):
        sys.exit(run(settings, load))


serve = SettingsCommand(
    "serve",
    callback=_serve,
    params=setting_params(),
    help=_HELP,
    short_help="Receive uploads into a folder, and serve them back.",
    epilog=_EXAMPLES,
)


def platform_refusal(platform: str) -> str | None:
    """Why Forebay cannot serve on `platform` (a value of `sys.platform`), or None."""
    if platform != "win32":
        return None
    return (
        "Forebay does not run on Windows yet: its promises about files need a POSIX filesystem. "
        "It does run there in WSL 2 or in a Linux container."
    )


def check_tls_files(settings: Settings) -> None:
    """Raises ConfigError unless the TLS files, if any, can be read."""
    for name in ("ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, name)
        if path is None:
            continue
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ConfigError(f"{name}: {path} cannot be read: {error.strerror}.") from None
        if may_be_uploaded(path, settings.dir):
            raise ConfigError(
                f"{name}: {path} lies in the folder to be served, where clients can read it. "
                "Keep it elsewhere."
            )


def exposure_warning(settings: Settings) -> str | None:
    """A warning when other machines can reach the server, or None."""
    if _is_loopback(settings.host):
        return None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"{host}:{settings.port}" if settings.port else host
    names = (
        ""
        if settings.allow_host
        else " Name the hosts that it is for (--allow-host): else a web page can reach it through "
        "a browser beside it, by a name of the page's own (DNS rebinding)."
    )
    return (
        f"WARNING: listening on {where}, beyond this machine. Forebay asks nobody "
        f"who they are: anyone who can reach it can store files in {os.path.abspath(settings.dir)}."
        f" Put a proxy that authenticates in front of it, or listen on 127.0.0.1.{names}"
    )


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    # ::ffff:127.0.0.1 is loopback too; Python says so only from 3.13 on.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
