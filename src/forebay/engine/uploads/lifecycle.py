"""The life of a resumable upload: every state times every command has an answer, here.

`docs/lifecycle.md` draws this table; a test keeps the two the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from forebay.model import UploadState


class Command(StrEnum):
    """What can be asked of an upload, in any dialect."""

    APPEND = "append"
    OFFSET = "offset"  # the protocols' own question; ends a running append first
    PEEK = "peek"  # a look that disturbs nobody
    CANCEL = "cancel"
    EXPIRE = "expire"


class Answer(StrEnum):
    """What is done about it."""

    RECEIVE = "receive"  # take the bytes
    TELL = "tell"  # say where it stands
    FINISH = "finish"  # go on with the completion, then answer from the state it leads to
    REPLAY = "replay"  # say again what the final answer was; nothing happens twice
    REMOVE = "remove"  # data and state go
    FORGET = "forget"  # the state goes; what was published stays, unless its removal is asked for
    GONE = "gone"  # it has ended; there is nothing to go on with
    KEEP = "keep"  # not yet


_S, _C, _A = UploadState, Command, Answer

TABLE: Mapping[tuple[UploadState, Command], Answer] = MappingProxyType(
    {
        (_S.OPEN, _C.APPEND): _A.RECEIVE,
        (_S.OPEN, _C.OFFSET): _A.TELL,
        (_S.OPEN, _C.PEEK): _A.TELL,
        (_S.OPEN, _C.CANCEL): _A.REMOVE,
        (_S.OPEN, _C.EXPIRE): _A.REMOVE,
        (_S.COMPLETING, _C.APPEND): _A.FINISH,
        (_S.COMPLETING, _C.OFFSET): _A.FINISH,
        (_S.COMPLETING, _C.PEEK): _A.TELL,
        (_S.COMPLETING, _C.CANCEL): _A.REMOVE,
        (_S.COMPLETING, _C.EXPIRE): _A.REMOVE,
        (_S.COMPLETE, _C.APPEND): _A.REPLAY,
        (_S.COMPLETE, _C.OFFSET): _A.TELL,
        (_S.COMPLETE, _C.PEEK): _A.TELL,
        (_S.COMPLETE, _C.CANCEL): _A.FORGET,
        (_S.COMPLETE, _C.EXPIRE): _A.FORGET,
        (_S.FAILED, _C.APPEND): _A.GONE,
        (_S.FAILED, _C.OFFSET): _A.GONE,
        (_S.FAILED, _C.PEEK): _A.TELL,
        (_S.FAILED, _C.CANCEL): _A.FORGET,
        (_S.FAILED, _C.EXPIRE): _A.FORGET,
        (_S.CANCELLED, _C.APPEND): _A.GONE,
        (_S.CANCELLED, _C.OFFSET): _A.GONE,
        (_S.CANCELLED, _C.PEEK): _A.TELL,
        (_S.CANCELLED, _C.CANCEL): _A.GONE,
        (_S.CANCELLED, _C.EXPIRE): _A.FORGET,
    }
)


def answer(state: UploadState, command: Command) -> Answer:
    return TABLE[state, command]


def diagram() -> str:
    """The states and what leads from one to another, as Mermaid; for the docs."""
    arrows = (
        ("[*]", _S.OPEN, "create"),
        (_S.OPEN, _S.OPEN, "append, offset"),
        (_S.OPEN, _S.COMPLETING, "last byte"),
        (_S.COMPLETING, _S.COMPLETE, "verified, published, committed"),
        (_S.COMPLETING, _S.FAILED, "refused by on_verify or a digest, sync failed"),
        (_S.OPEN, _S.FAILED, "data lost, sync failed, length passed"),
        (_S.OPEN, _S.CANCELLED, "cancel"),
        (_S.COMPLETING, _S.CANCELLED, "cancel"),
        (_S.OPEN, "[*]", "expire"),
        (_S.COMPLETING, "[*]", "expire"),
        (_S.COMPLETE, "[*]", "expire, forget"),
        (_S.FAILED, "[*]", "expire, forget"),
        (_S.CANCELLED, "[*]", "expire"),
    )
    lines = [f"    {start} --> {end}: {label}" for start, end, label in arrows]
    return "\n".join(["stateDiagram-v2", *lines])


def table() -> str:
    """The table as Markdown, for the docs."""
    head = "| state | " + " | ".join(Command) + " |"
    rule = "|---|" + "---|" * len(Command)
    rows = [
        f"| {state} | " + " | ".join(TABLE[state, command] for command in Command) + " |"
        for state in UploadState
    ]
    return "\n".join([head, rule, *rows])
