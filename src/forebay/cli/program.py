"""`forebay`: its commands."""

from __future__ import annotations

import click

from forebay.cli.config import config
from forebay.cli.serve import serve
from forebay.cli.sweep import sweep
from forebay.cli.uploads import uploads
from forebay.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="forebay %(version)s")
def program() -> None:
    """Receive files of any size over HTTP, in flat memory, and lose nothing.

    \b
    forebay serve uploads     receive into ./uploads on http://127.0.0.1:8000/files/
    forebay serve --help      every setting, its default and its environment variable
    forebay config            the settings in force, and where each comes from
    """


program.add_command(serve)
program.add_command(config)
program.add_command(sweep)
program.add_command(uploads)
