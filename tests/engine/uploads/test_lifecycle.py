"""The tables have an answer for everything, the docs show the same, states change by them alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import forebay
from forebay.engine.lifecycle import (
    ACTIONS,
    TRANSITIONS,
    Action,
    Command,
    Event,
    after,
    diagram,
    table,
)
from forebay.errors import WrongState
from forebay.model import UploadState

DOC = Path(__file__).parents[3] / "docs" / "lifecycle.md"
SOURCES = Path(forebay.__file__).parent


def test_every_state_times_every_command_has_an_action():
    assert set(ACTIONS) == {(state, command) for state in UploadState for command in Command}


@pytest.mark.parametrize("command", Command)
def test_only_an_open_upload_takes_bytes(command: Command):
    takes = {state for state in UploadState if ACTIONS[state, command] is Action.RECEIVE}
    assert takes == ({UploadState.OPEN} if command is Command.APPEND else set())


@pytest.mark.parametrize("state", UploadState)
@pytest.mark.parametrize("event", Event)
def test_an_event_leads_to_one_state_or_is_refused(state: UploadState, event: Event):
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(WrongState):
            after(state, event)


def test_what_has_ended_never_takes_bytes_again():
    ended = {UploadState.COMPLETE, UploadState.FAILED, UploadState.CANCELLED}
    reached = {then for (before, _), then in TRANSITIONS.items() if before in ended}
    assert reached <= ended


def written_states(source: str) -> Iterator[int]:
    """Lines at which a change of a record names a state, and not the event that led to it: by an
    argument of `change` or `update`, or by a dict of changes.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _called(node) in ("change", "update"):
            given = [(keyword.arg, keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            given = [
                (key.value if isinstance(key, ast.Constant) else None, value)
                for key, value in zip(node.keys, node.values, strict=True)
            ]
        else:
            continue
        for name, value in given:
            if name == "state" and "UploadState." in ast.unparse(value):
                yield node.lineno


def _called(node: ast.Call) -> str:
    called = node.func
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


@pytest.mark.parametrize(
    "source",
    [
        "sessions.update(id, state=UploadState.COMPLETE)",
        "changes |= {'state': UploadState.COMPLETE, 'final_size': 3}",
    ],
)
def test_a_state_that_is_written_by_its_name_is_found(source: str):
    assert list(written_states(source)) == [1]


def test_states_are_changed_by_events_alone():
    found = {
        str(path.relative_to(SOURCES)): lines
        for path in SOURCES.rglob("*.py")
        if (lines := list(written_states(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize("made", [diagram, table])
def test_the_docs_show_what_the_code_does(made):
    assert made() in DOC.read_text()
