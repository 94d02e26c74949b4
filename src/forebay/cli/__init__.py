"""The command line. Nothing is imported here before it is needed, so that help is quick."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Runs the command that `sys.argv` names, and exits: 2 is a wrong flag or setting."""
    import sys

    from forebay.cli.program import program
    from forebay.errors import ConfigError

    try:
        # The name is given because under `python -m` it would be "python -m forebay".
        program.main(prog_name="forebay")
    except ConfigError as error:
        print(f"forebay: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
