"""The command line. Imports are late, so that help is quick."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Runs the command in `sys.argv`, and exits; the exit code 2 is for a wrong flag or setting."""
    import sys

    from forebay.standard_error import flush_or_forget, hold_standard_descriptors, say
    from forebay.trusted_paths import forget_working_folder

    hold_standard_descriptors()
    _use_utf8()
    forget_working_folder()
    from forebay.cli.program import program
    from forebay.errors import ConfigError

    try:
        # Otherwise the name in messages is "python -m forebay" under `python -m`.
        program.main(prog_name="forebay")
    except ConfigError as error:
        say(f"forebay: {error}")
        sys.exit(2)
    finally:
        flush_or_forget()
    sys.exit(0)


def _use_utf8() -> None:
    """Restarts this program in Python's UTF-8 mode when the locale has another encoding. Names of
    files are UTF-8, so paths in settings and arguments, and output, must be too.
    """
    import contextlib
    import os
    import sys

    if sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    with contextlib.suppress(OSError):  # names of stored files are UTF-8 all the same
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
