"""`forebay sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli.options import existing_folder, folder_params

if TYPE_CHECKING:
    from forebay.config import Settings

_HELP = """Remove what expired or crashed uploads left in DIR, once.

A running server does this by itself. It may run meanwhile: uploads that a process is working on
are left alone. DIR and every other setting (retention: how long an unfinished upload can be
resumed) are also read from the environment and the TOML file, as `forebay serve` does.
"""


def _sweep(**params: Any) -> None:
    import asyncio

    with existing_folder(params) as settings:
        click.echo(asyncio.run(_run(settings)))


async def _run(settings: Settings) -> str:
    from forebay.backends import opened
    from forebay.engine.maintenance.operator import sweep_once

    async with opened(settings) as backends:
        swept = await sweep_once(settings, backends.store, backends.locks, backends.sessions)
    return swept.summary()


sweep = click.Command(
    "sweep",
    callback=_sweep,
    params=folder_params(),
    help=_HELP,
    short_help="Remove what expired or crashed uploads left.",
)
