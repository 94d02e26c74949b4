"""The command line. Nothing is imported here before it is needed, so that help is quick."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Runs the command that `sys.argv` names, and exits: 2 is a wrong flag or setting."""
    import sys

    from forebay.standard_error import flush_or_forget, hold_standard_descriptors, say
    from forebay.trusted_paths import forget_working_folder

    hold_standard_descriptors()
    _speak_utf8()
    forget_working_folder()
    from forebay.cli.program import program
    from forebay.errors import ConfigError

    try:
        # The name is given because under `python -m` it would be "python -m forebay".
        program.main(prog_name="forebay")
    except ConfigError as error:
        say(f"forebay: {error}")
        sys.exit(2)
    finally:
        flush_or_forget()
    sys.exit(0)


def _speak_utf8() -> None:
    """Starts this program again in Python's UTF-8 mode where the locale is another: paths in
    settings and arguments, and what is printed, are UTF-8 as names on the disk are.
    """
    import contextlib
    import os
    import sys

    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    with contextlib.suppress(OSError):  # then names on the disk are UTF-8 all the same
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
