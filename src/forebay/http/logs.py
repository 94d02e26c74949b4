"""Log lines as text for people or JSON for programs, to standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, cast

from uvicorn.protocols.utils import get_client_addr

_access_logger = logging.getLogger("uvicorn.access")

_OWN = ("upload", "code", "status")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the fields that Forebay adds."""

    def format(self, record: logging.LogRecord) -> str:
        value: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        value.update({key: record.__dict__[key] for key in _OWN if key in record.__dict__})
        if record.exc_info:
            value["exception"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=True)


class TextFormatter(logging.Formatter):
    """Text, with control characters escaped: those of a client never reach a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        upload = record.__dict__.get("upload")
        if upload:
            text += f" [{upload}]"
        return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def log_access(scope: dict[str, Any], status: int) -> None:
    """Logs one request as uvicorn does."""
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    _access_logger.info(
        '%s - "%s %s HTTP/%s" %d',
        get_client_addr(cast(Any, scope)),
        scope["method"],
        target.decode("latin-1"),
        scope["http_version"],
        status,
    )


def set_up(level: str, form: str, *, access_log: bool) -> None:
    """Configures the loggers of Forebay and uvicorn; can be called again for a new level."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("forebay", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
    # uvicorn's lines about start and stop would repeat ours.
    logging.getLogger("uvicorn.error").setLevel(
        "WARNING" if level in ("info", "warning") else level.upper()
    )
    logging.getLogger("uvicorn.access").disabled = not access_log
