"""`forebay sweep`."""

from __future__ import annotations

from typing import Any

import click

from forebay.cli.options import folder_in_use, setting_params, settings_loader
from forebay.config import describe

_HELP = """Remove what expired or crashed uploads left in DIR, once.

A running server does this by itself, and may run meanwhile: what a living process holds is
left alone. DIR and every other setting (retention: how long unfinished uploads are kept) are
also read from the environment and the TOML file, as `forebay serve` does.
"""


def _sweep(**params: Any) -> None:
    settings = settings_loader(params)()
    from forebay.engine.maintenance.sweep import sweep_directory

    with folder_in_use(settings):
        click.echo(sweep_directory(settings).summary())


sweep = click.Command(
    "sweep",
    callback=_sweep,
    params=setting_params([s for s in describe() if s.positional]),
    help=_HELP,
    short_help="Remove what expired or crashed uploads left.",
)
