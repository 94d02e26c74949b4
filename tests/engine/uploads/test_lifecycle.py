"""The state table has an answer for everything, and the docs show the same table."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.engine.uploads.lifecycle import TABLE, Answer, Command, diagram, table
from forebay.model import UploadState

DOC = Path(__file__).parents[3] / "docs" / "lifecycle.md"


def test_every_state_times_every_command_has_an_answer():
    assert set(TABLE) == {(state, command) for state in UploadState for command in Command}


def test_a_look_never_does_anything():
    assert {TABLE[state, Command.PEEK] for state in UploadState} == {Answer.TELL}


@pytest.mark.parametrize("command", Command)
def test_only_an_open_upload_takes_bytes(command: Command):
    takes = {state for state in UploadState if TABLE[state, command] is Answer.RECEIVE}
    assert takes == ({UploadState.OPEN} if command is Command.APPEND else set())


@pytest.mark.parametrize("made", [diagram, table])
def test_the_docs_show_what_the_code_does(made):
    assert made() in DOC.read_text()
