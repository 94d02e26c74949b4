"""`forebay uploads`: the resumable uploads of a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from forebay.cli.options import existing_folder, folder_params
from forebay.model import UploadState

if TYPE_CHECKING:
    from forebay.backends import Backends
    from forebay.config import Settings
    from forebay.model import UploadRecord

T = TypeVar("T")

_ABOUT = """
A server may be running meanwhile. DIR and every other setting are also read from the environment
and the TOML file, as `forebay serve` does.
"""


@click.group(short_help="List, show and cancel resumable uploads.")
def uploads() -> None:
    """The resumable uploads of a folder: unfinished ones, and those that ended lately."""


def _run(params: dict[str, Any], action: Callable[[Backends, Settings], Awaitable[T]]) -> T:
    """What `action` returns. Errors of uploads end the command with exit code 1."""
    import asyncio

    from forebay.backends import opened
    from forebay.errors import UploadError

    async def run(settings: Settings) -> T:
        async with opened(settings) as backends:
            return await action(backends, settings)

    with existing_folder(params) as settings:
        try:
            return asyncio.run(run(settings))
        except UploadError as error:
            raise click.ClickException(f"{error.message} ({error.code})") from None


def _list(state: str | None, as_json: bool, **params: Any) -> None:
    from forebay.engine.maintenance.operator import list_uploads

    async def collect(backends: Backends, _: Settings) -> list[UploadRecord]:
        wanted = UploadState(state) if state else None
        return [record async for record in list_uploads(backends.sessions, wanted)]

    records = _run(params, collect)
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
    """A note on the pending call of on_complete, "" when there is none."""
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
    from forebay.engine.maintenance.operator import load_upload

    record = _run(params, lambda backends, _: load_upload(backends.sessions, upload_id))
    click.echo(json.dumps(_described(record), indent=2, ensure_ascii=False))


def _cancel(upload_id: str, **params: Any) -> None:
    from forebay.engine.maintenance.operator import cancel_upload

    record = _run(
        params, lambda b, settings: cancel_upload(settings, b.store, b.locks, b.sessions, upload_id)
    )
    click.echo(f"cancelled {record.id}: {record.name}, {record.offset} bytes")


def _id() -> click.Parameter:
    return click.Argument(["upload_id"], metavar="ID")


_STATES = [state.value for state in UploadState]

uploads.add_command(
    click.Command(
        "list",
        callback=_list,
        params=[
            click.Option(["--state"], type=click.Choice(_STATES), help="Only those in this state."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print them as JSON."),
            *folder_params(),
        ],
        help=f"List the resumable uploads of DIR.\n{_ABOUT}",
        short_help="List them.",
    )
)
uploads.add_command(
    click.Command(
        "show",
        callback=_show,
        params=[_id(), *folder_params()],
        help=f"Show the upload ID of DIR as JSON. A running append to it goes on.\n{_ABOUT}",
        short_help="Show one as JSON.",
    )
)
uploads.add_command(
    click.Command(
        "cancel",
        callback=_cancel,
        params=[_id(), *folder_params()],
        help=(
            "End the upload ID of DIR: a running append to it is stopped, and its data is removed. "
            f"A finished one is removed only with allow_delete.\n{_ABOUT}"
        ),
        short_help="End one.",
    )
)
