"""Random walks of a client that sends parts, against a model of a few lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.server import ServerProcess
from partial.client import ask, part
from raw_http import content

Start = Callable[..., ServerProcess]
NAMES = itertools.count()

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "ask", "again"]),
        st.sampled_from([0, 0, 0, 0, -1, 1, 7]),  # how far beside the right offset
        st.integers(1, 60),
        st.booleans(),  # whether the total is told
        st.booleans(),  # by name, or by the address of the upload
    ),
    max_size=12,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.integers(1, 150), steps=STEPS)
def test_any_walk_of_parts_ends_in_the_file(
    reuse_server: Start, size: int, steps: list[tuple[str, int, int, bool, bool]]
) -> None:
    server = reuse_server()
    body = content(size, 1)
    name = f"walk-{next(NAMES)}"
    by_name, location = f"/files/{name}", ""
    offset, exists, known, done = 0, False, False, False
    for what, beside, length, tells, names_it in [*steps, ("send", 0, size, True, True)]:
        target = location if location and not names_it else by_name
        if what == "ask":
            reply = ask(server, target, size if tells else "*")
            if not exists:
                assert reply.status == 404
                continue
            done = done or (tells and offset == size)
        else:
            start = 0 if what == "again" else max(0, min(offset + beside, size - 1))
            if what == "send" and beside == 0 and offset == size:
                start = size - 1
            stop = min(size, start + length)
            reply = part(server, target, body, start, stop, size if tells else "*")
            if done and tells and stop == size and (start or target == location):
                pass  # the last part once more: the last answer once more
            elif start == 0 and exists and target == by_name:
                expected = "FB_NAME_TAKEN" if done else "FB_UPLOAD_EXISTS"
                assert (reply.status, reply.code) == (409, expected)
                continue
            elif start != offset or done:
                assert (reply.status, reply.code) == (409, "FB_OFFSET_MISMATCH")
                assert reply.json["expected-offset"] == reply.received == offset
                continue
            else:
                offset, exists = stop, True
                known = known or tells
                done = known and offset == size
        if done:
            assert reply.status == 201
            assert server.published() == {name: size}
        else:
            assert (reply.status, reply.received) == (308, offset)
            assert server.published() == {}
            location = reply.fields["content-location"]
    if not done:
        assert part(server, by_name, body, offset, size).status == 201 if offset < size else True
        assert ask(server, by_name, size).status == 201
    assert (server.folder / name).read_bytes() == body
    (server.folder / name).unlink()
