"""`forebay uploads`: the resumable uploads of a folder."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from forebay.cli.options import folder_in_use, setting_params, settings_loader
from forebay.config import Settings, describe

if TYPE_CHECKING:
    from forebay.model import UploadRecord

_ABOUT = """
A running server may go on meanwhile. DIR and every other setting are also read from the
environment and the TOML file, as `forebay serve` does.
"""


@click.group(short_help="List, show and cancel resumable uploads.")
def uploads() -> None:
    """The resumable uploads of a folder: those under way, and those that ended lately."""


@contextlib.contextmanager
def _settings(params: dict[str, Any]) -> Iterator[Settings]:
    """Errors of uploads end the command with exit code 1 and their message."""
    from forebay.errors import ConfigError, UploadError

    settings = settings_loader(params)()
    if not os.path.isdir(settings.dir):
        raise ConfigError(f"there is no folder {settings.dir!r} (DIR)")
    with folder_in_use(settings):
        try:
            yield settings
        except UploadError as error:
            raise click.ClickException(f"{error.message} ({error.code})") from None


def _list(state: str | None, as_json: bool, **params: Any) -> None:
    import asyncio

    from forebay.backends import opened
    from forebay.engine.maintenance.operator import list_uploads
    from forebay.model import UploadState

    with _settings(params) as settings:

        async def collect() -> list[UploadRecord]:
            wanted = UploadState(state) if state else None
            async with opened(settings) as backends:
                return [record async for record in list_uploads(backends.sessions, wanted)]

        records = asyncio.run(collect())
    if as_json:
        click.echo(json.dumps([_described(record) for record in records], indent=2))
        return
    rows: list[tuple[str, ...]] = [("ID", "STATE", "PROTOCOL", "BYTES", "OF", "EXPIRES IN", "NAME")]
    rows += [_row(record) for record in records]
    wide = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row, wide, strict=False)]
        click.echo("  ".join([*cells, row[6]]))


def _row(record: UploadRecord) -> tuple[str, ...]:
    length = "?" if record.length is None else str(record.length)
    left = "-" if record.expires_at is None else f"{max(0, record.expires_at - time.time()):.0f}s"
    name = (record.final_name or record.name) + _callback_note(record)
    return record.id, record.state, record.dialect, str(record.offset), length, left, name


def _described(record: UploadRecord) -> dict[str, Any]:
    from forebay.engine.maintenance.operator import describe_callback
    from forebay.http.uploads import describe as describe_upload

    described, pending = describe_upload(record), describe_callback(record)
    return described if pending is None else {**described, "on_complete": pending}


def _callback_note(record: UploadRecord) -> str:
    """The pending call of on_complete for its file, for the list; empty when there is none."""
    from forebay.engine.maintenance.operator import describe_callback

    pending = describe_callback(record)
    if pending is None:
        return ""
    left = max(0, pending["next"] - time.time())
    if not pending["failures"]:
        return "  [on_complete is to be called]"
    return (
        f"  [on_complete failed {pending['failures']} times, next in {left:.0f}s: "
        f"{pending['last_error']}]"
    )


def _show(upload_id: str, **params: Any) -> None:
    import asyncio

    from forebay.backends import opened
    from forebay.engine.maintenance.operator import load_upload

    with _settings(params) as settings:

        async def load() -> UploadRecord:
            async with opened(settings) as backends:
                return await load_upload(backends.sessions, upload_id)

        record = asyncio.run(load())
    click.echo(json.dumps(_described(record), indent=2, ensure_ascii=False))


def _cancel(upload_id: str, **params: Any) -> None:
    import asyncio

    from forebay.backends import opened
    from forebay.engine.maintenance.operator import cancel_upload

    with _settings(params) as settings:

        async def cancel() -> UploadRecord:
            async with opened(settings) as b:
                return await cancel_upload(settings, b.store, b.locks, b.sessions, upload_id)

        record = asyncio.run(cancel())
    click.echo(f"cancelled {record.id}: {record.name}, {record.offset} bytes")


def _folder() -> list[click.Parameter]:
    return setting_params([setting for setting in describe() if setting.positional])


def _id() -> click.Parameter:
    return click.Argument(["upload_id"], metavar="ID")


_STATES = ("open", "completing", "complete", "failed", "cancelled")

uploads.add_command(
    click.Command(
        "list",
        callback=_list,
        params=[
            click.Option(["--state"], type=click.Choice(_STATES), help="Only those in this state."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print them as JSON."),
            *_folder(),
        ],
        help=f"List the resumable uploads of DIR.\n{_ABOUT}",
        short_help="List them.",
    )
)
uploads.add_command(
    click.Command(
        "show",
        callback=_show,
        params=[_id(), *_folder()],
        help=f"Show the upload ID of DIR as JSON. Nobody who writes to it is disturbed.\n{_ABOUT}",
        short_help="Show one as JSON.",
    )
)
uploads.add_command(
    click.Command(
        "cancel",
        callback=_cancel,
        params=[_id(), *_folder()],
        help=(
            "End the upload ID of DIR: its data goes, and whoever writes to it is stopped. "
            f"A finished one is removed only with allow_delete.\n{_ABOUT}"
        ),
        short_help="End one.",
    )
)
