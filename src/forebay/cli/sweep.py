"""`forebay sweep`."""

from __future__ import annotations

import os
from typing import Any

import click

from forebay.cli.options import folder_in_use, setting_params, settings_loader
from forebay.config import describe
from forebay.errors import ConfigError

_HELP = """Remove what expired or crashed uploads left in DIR, once.

A running server does this by itself, and may run meanwhile: what a living process holds is
left alone. DIR and every other setting (retention: how long unfinished uploads are kept) are
also read from the environment and the TOML file, as `forebay serve` does.
"""


def _sweep(**params: Any) -> None:
    import asyncio

    from forebay.backends import opened
    from forebay.engine.maintenance.operator import sweep_once

    settings = settings_loader(params)()
    if not os.path.isdir(settings.dir):  # none is made
        raise ConfigError(f"there is no folder {settings.dir!r} to sweep (DIR)")

    async def run() -> str:
        async with opened(settings) as backends:
            swept = await sweep_once(settings, backends.store, backends.locks, backends.sessions)
            return swept.summary()

    with folder_in_use(settings):
        click.echo(asyncio.run(run()))


sweep = click.Command(
    "sweep",
    callback=_sweep,
    params=setting_params([s for s in describe() if s.positional]),
    help=_HELP,
    short_help="Remove what expired or crashed uploads left.",
)
