"""The life of a resumable upload: what a command does in each state, and how states change.

Pure tables, and the only place that names a transition: whoever changes a state says which event
happened, and `after` tells the state that follows. `docs/lifecycle.md` draws both tables; a test
compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from forebay.errors import WrongState
from forebay.model import FileInfo, UploadRecord, UploadState
from forebay.record import Outcome


class Command(StrEnum):
    """What can be asked of an upload, in any dialect."""

    APPEND = "append"
    OFFSET = "offset"  # the offset request of the protocols; it ends a running append first
    CANCEL = "cancel"


class Action(StrEnum):
    """What a command does."""

    RECEIVE = "receive"  # take the bytes
    ANSWER = "answer"  # tell where it stands
    FINISH = "finish"  # go on with the completion, then act by the state that follows
    REPLAY = "replay"  # give the final answer again; nothing happens twice
    REMOVE = "remove"  # data and record go
    FORGET = "forget"  # the record goes; the file stays, unless its removal is allowed
    GONE = "gone"  # refused: it has ended


class Event(StrEnum):
    """What happened to an upload."""

    ALL_BYTES = "all bytes are there"
    PART_WHOLE = "a part has all its bytes"
    PUBLISHED = "published"
    FAILED = "refused or lost"
    CANCELLED = "cancelled"


_S, _C, _A, _E = UploadState, Command, Action, Event

ACTIONS: Mapping[tuple[UploadState, Command], Action] = MappingProxyType(
    {
        (_S.OPEN, _C.APPEND): _A.RECEIVE,
        (_S.OPEN, _C.OFFSET): _A.ANSWER,
        (_S.OPEN, _C.CANCEL): _A.REMOVE,
        (_S.COMPLETING, _C.APPEND): _A.FINISH,
        (_S.COMPLETING, _C.OFFSET): _A.FINISH,
        (_S.COMPLETING, _C.CANCEL): _A.REMOVE,
        (_S.COMPLETE, _C.APPEND): _A.REPLAY,
        (_S.COMPLETE, _C.OFFSET): _A.ANSWER,
        (_S.COMPLETE, _C.CANCEL): _A.FORGET,
        (_S.FAILED, _C.APPEND): _A.GONE,
        (_S.FAILED, _C.OFFSET): _A.GONE,
        (_S.FAILED, _C.CANCEL): _A.FORGET,
        (_S.CANCELLED, _C.APPEND): _A.GONE,
        (_S.CANCELLED, _C.OFFSET): _A.GONE,
        (_S.CANCELLED, _C.CANCEL): _A.GONE,
    }
)

TRANSITIONS: Mapping[tuple[UploadState, Event], UploadState] = MappingProxyType(
    {
        (_S.OPEN, _E.ALL_BYTES): _S.COMPLETING,
        (_S.OPEN, _E.PART_WHOLE): _S.COMPLETE,
        (_S.OPEN, _E.FAILED): _S.FAILED,
        (_S.OPEN, _E.CANCELLED): _S.CANCELLED,
        (_S.COMPLETING, _E.ALL_BYTES): _S.COMPLETING,
        (_S.COMPLETING, _E.PART_WHOLE): _S.COMPLETE,
        (_S.COMPLETING, _E.PUBLISHED): _S.COMPLETE,
        (_S.COMPLETING, _E.FAILED): _S.FAILED,
        (_S.COMPLETING, _E.CANCELLED): _S.CANCELLED,
        (_S.COMPLETE, _E.CANCELLED): _S.CANCELLED,
    }
)
"""All that may happen; anything else is an error of the program, or of two writers at once."""


def action(state: UploadState, command: Command) -> Action:
    """What `command` does to an upload in `state`."""
    return ACTIONS[state, command]


def after(state: UploadState, event: Event) -> UploadState:
    """The state that follows. Raises WrongState when the event cannot happen in `state`."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise WrongState(f"An upload that is {state} cannot be {event}.", state=state)
    return following


def completed(
    record: UploadRecord, file: FileInfo, now: float, *, replaced: bool = False
) -> dict[str, Any]:
    """The changes of a record once `file` is published, at the time `now`."""
    duration = now - record.created_at
    outcome = Outcome.of(record).published(file, replaced=replaced, duration=duration)
    return {
        "state": after(record.state, Event.PUBLISHED),
        "final_size": file.size,
        "outcome": outcome.encode(),
    }


def diagram() -> str:
    """The states and the events between them, as Mermaid; for the docs."""
    lines = ["stateDiagram-v2", f"    [*] --> {_S.OPEN}: created"]
    lines += [f"    {before} --> {then}: {event}" for (before, event), then in TRANSITIONS.items()]
    removed = (_A.REMOVE, _A.FORGET)
    for state in UploadState:
        ends = [str(c) for c in Command if ACTIONS[state, c] in removed]
        lines.append(f"    {state} --> [*]: {', '.join([*ends, 'expired'])}")
    return "\n".join(lines)


def table() -> str:
    """The actions as a Markdown table, for the docs."""
    head = "| state | " + " | ".join(Command) + " |"
    rule = "|---|" + "---|" * len(Command)
    rows = [
        f"| {state} | " + " | ".join(ACTIONS[state, command] for command in Command) + " |"
        for state in UploadState
    ]
    return "\n".join([head, rule, *rows])
