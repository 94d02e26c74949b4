"""`Engine.receive_form`: through the one pump, in pieces cut anywhere, with nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.completion import on_a_loop
from engine.running import Wire, running
from forebay.config import Settings
from forebay.engine.engine import Engine
from forebay.engine.forms.form import Form
from forebay.engine.forms.parts import AsField, AsFile, Dropped, PartHead, Placement
from forebay.engine.forms.request import FormRequest
from forebay.engine.forms.sink import located
from forebay.errors import (
    DigestMismatch,
    DiskFull,
    Forbidden,
    IncompleteBody,
    InvalidName,
    InvalidRequest,
    MalformedBody,
    NameTaken,
    TooLarge,
    TooManyUploads,
    UnsupportedMediaType,
    VerificationRefused,
)
from forebay.hooks.base import Access, Candidate, Completion
from forebay.hooks.python import PythonHooks
from forebay.model import Conflict, Digest, FormPolicy, KiB, LargeField, MiB
from forebay.protocol.names import numbered
from forebay.stores.files.layout import OWN_FOLDER
from forebay.stores.memory import MemoryStore
from form_limits import form_limits
from kinds import folder_of

B = b"a-boundary"
TYPE = b"multipart/form-data; boundary=" + B


def text(name: str, value: bytes | str, more: str = "") -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"\r\n{more}\r\n'.encode() + value


def file(filename: str, content: bytes, name: str = "file", kind: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    if kind:
        head += f"Content-Type: {kind}\r\n"
    return head.encode() + b"\r\n" + content


def form(*parts: bytes) -> bytes:
    return b"".join(b"--%s\r\n%s\r\n" % (B, part) for part in parts) + b"--%s--\r\n" % B


def wire(body: bytes, *cuts: int, length: bool = True) -> Any:
    sender = Wire(len(body) if length else None)
    edges = [0, *sorted(cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        sender.send(body[start:end])
    sender.send(b"", last=True)
    return sender.source


def published(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and OWN_FOLDER not in path.parts
    }


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def leaving_nothing(engine: Engine) -> Any:
    """Whatever happens inside, nothing is held after it: no descriptor, file or memory."""
    await engine.workers.run(int)  # its thread and the loop's own descriptors are there
    before = descriptors()
    yield
    assert descriptors() == before
    assert engine.context.budget.used == 0
    assert engine.context.admission.running == 0
    folder = folder_of(engine.settings.dir)
    assert list((folder / OWN_FOLDER / "tmp").iterdir()) == []


async def publish(engine: Engine, body: bytes, policy: FormPolicy | None = None, **more: Any):
    async with engine.receive_form(
        wire(body), FormRequest(TYPE, policy=policy, **more)
    ) as received:
        return await received.publish()


# --- what a form holds -----------------------------------------------------------------------


@on_a_loop
async def test_fields_and_files_keep_their_order_names_and_bytes(tmp_path):
    body = form(
        text("title", "Grüße"),
        file("a.txt", b"first", kind="text/plain"),
        text("title", "again"),
        file("b.bin", b"\r\n--a-boundar", name="other"),
    )
    async with running(tmp_path) as engine, leaving_nothing(engine):
        async with engine.receive_form(wire(body), FormRequest(TYPE)) as received:
            assert received.fields["title"] == "Grüße"
            assert received.fields.getall("title") == ["Grüße", "again"]
            assert received.fields.multi_items() == [("title", "Grüße"), ("title", "again")]
            assert list(received.files) == ["file", "other"]
            first, second = received.files["file"], received.files["other"]
            assert (first.field, first.filename, first.name) == ("file", "a.txt", "a.txt")
            assert (first.media_type, first.size, first.kind) == ("text/plain", 5, "memory")
            assert await first.read() == b"first"
            assert await second.read() == b"\r\n--a-boundar"
            with first.mmap() as area:
                assert bytes(area) == b"first"
            assert [piece async for piece in second] == [b"\r\n--a-boundar"]
        with pytest.raises(InvalidRequest, match="gone"):
            first.open()
        assert published(tmp_path) == {}


@on_a_loop
async def test_a_file_can_be_moved_and_the_others_go(tmp_path):
    body = form(file("a", b"x" * 100), file("b", b"y" * 5 * MiB))
    async with running(tmp_path) as engine, leaving_nothing(engine):
        async with engine.receive_form(wire(body), FormRequest(TYPE)) as received:
            small, large = received.files.getall("file")
            assert (small.kind, large.kind) == ("memory", "file")
            stored = await large.move_to("videos/clip")
            assert stored.file.size == 5 * MiB
            assert await received.publish() != []  # the other one
        assert published(tmp_path) == {"a": b"x" * 100, "videos/clip": b"y" * 5 * MiB}


@on_a_loop
async def test_the_charset_field_and_that_of_a_part_decide_how_text_is_read(tmp_path):
    body = form(
        text("own", b"\xe4", "Content-Type: text/plain; charset=iso-8859-1\r\n"),
        text("_charset_", "windows-1252"),
        text("default", b"\x80"),
    )
    async with (
        running(tmp_path) as engine,
        engine.receive_form(wire(body), FormRequest(TYPE)) as received,
    ):
        assert received.fields["own"] == "ä"
        assert received.fields["default"] == "€"


@on_a_loop
async def test_text_that_is_not_its_charset_refuses_no_file_beside_it(tmp_path):
    body = form(
        file("a", b"x"),
        text("t", b"\xff\xfe"),
        text("u", b"\x81", "Content-Type: text/plain; charset=Shift_JIS\r\n"),
        text("v", "ä", "Content-Type: text/plain; charset=utf-7\r\n"),
        text("w", "中文".encode("gbk"), "Content-Type: text/plain; charset=GBK\r\n"),
    )
    async with (
        running(tmp_path) as engine,
        engine.receive_form(wire(body), FormRequest(TYPE)) as received,
    ):
        assert received.fields.multi_items() == [
            ("t", "\xff\xfe"), ("u", "\x81"), ("v", "ä"), ("w", "中文")
        ]  # fmt: skip
        await received.publish()
    assert published(tmp_path) == {"a": b"x"}


@on_a_loop
async def test_the_charset_of_the_whole_form_is_that_of_its_names_and_fields(tmp_path):
    name = "表".encode("cp932")
    body = form(
        b'Content-Disposition: form-data; name="f"; filename="' + name + b'.txt"\r\n\r\nx',
        text("t", name),
    )
    kind = TYPE + b"; charset=Shift_JIS"
    async with (
        running(tmp_path) as engine,
        engine.receive_form(wire(body), FormRequest(kind)) as received,
    ):
        assert received.fields["t"] == "表"
        await received.publish()
    assert published(tmp_path) == {"表.txt": b"x"}


@on_a_loop
async def test_a_file_input_without_a_file_is_no_file_and_one_without_a_name_gets_one(tmp_path):
    async with running(tmp_path) as engine:
        async with engine.receive_form(wire(form(file("", b""))), FormRequest(TYPE)) as received:
            assert received.files.multi_items() == []
            assert await received.publish() == []
        async with engine.receive_form(
            wire(form(file("", b""))), FormRequest(TYPE, empty_inputs=True)
        ) as received:
            assert [file.filename for file in received.files.getall("file")] == [""]
        await publish(engine, form(file("", b"x"), file("", b"yy")))
    assert published(tmp_path) == {"file.bin": b"x", "file (1).bin": b"yy"}


@on_a_loop
async def test_a_part_that_says_it_is_a_file_is_stored_and_never_over_another(tmp_path):
    def placing(policy: Conflict) -> Any:
        return lambda head: AsFile(conflict=policy) if head.is_file else AsField()

    unnamed = text("photo", b"1", "Content-Type: image/jpeg\r\n")
    undecodable = (
        b"Content-Disposition: form-data; name=photo; filename*=UTF-8''%ff\r\n"
        b"Content-Type: image/jpeg\r\n\r\n22"
    )
    stays = text("meta", b"{}", "Content-Type: application/json\r\n")
    async with running(tmp_path) as engine:
        (tmp_path / "photo.jpg").write_bytes(b"of another")
        for policy in (Conflict.REPLACE, Conflict.REFUSE):
            body = form(unnamed, undecodable, stays)
            outcomes = await publish(engine, body, place=placing(policy))
            assert [outcome.filename for outcome in outcomes] == ["photo.jpg"] * 2
            assert all(outcome.stored for outcome in outcomes)
    assert published(tmp_path) == {
        "photo.jpg": b"of another",
        **{f"photo ({number}).jpg": b"1" if number % 2 else b"22" for number in range(1, 5)},
    }


@on_a_loop
async def test_digests_of_files_and_of_the_whole_body(tmp_path):
    def place(head: PartHead) -> Placement:
        return AsFile(wanted=("sha-256",))

    body = form(file("a", b"x" * 3 * MiB))
    right, wrong = hashlib.sha256(body).digest(), hashlib.sha256(b"").digest()
    async with running(tmp_path) as engine, leaving_nothing(engine):
        expected = (Digest("sha-256", right),)
        (outcome,) = await publish(engine, body, place=place, expected=expected)
        digest = hashlib.sha256(b"x" * 3 * MiB).digest()
        assert outcome.stored.digests == (Digest("sha-256", digest),)
        with pytest.raises(DigestMismatch):
            await publish(engine, body, expected=(Digest("sha-256", wrong),))
        assert list(published(tmp_path)) == ["a"]


# --- cut anywhere, against a model -----------------------------------------------------------

contents = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from([b"\r", b"\n", b"--", b"\r\n--" + B[:4], b"\r\n--" + B + b"x", b"z" * 50]),
        max_size=20,
    ).map(b"".join),
)
parts = st.lists(st.tuples(st.booleans(), contents), max_size=6)


@settings(max_examples=150, deadline=None)
@given(parts, st.data())
def test_cut_anywhere_a_form_is_what_the_model_says(parts, data):
    sent = [
        file(f"f{n}", body) if is_file else text(f"t{n}", body.decode("latin-1"))
        for n, (is_file, body) in enumerate(parts)
    ]
    body = form(*sent)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=12))
    threshold = data.draw(st.sampled_from([0, 40, 2 * MiB]))

    def place(head: PartHead) -> Placement:
        return AsFile(threshold=threshold) if head.is_file else AsField()

    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with running(Path(folder), sqlite=False) as engine, leaving_nothing(engine):
                async with engine.receive_form(
                    wire(body, *cuts), FormRequest(TYPE, place=place)
                ) as received:
                    assert received.fields.multi_items() == [
                        (f"t{n}", body.decode("latin-1"))
                        for n, (is_file, body) in enumerate(parts)
                        if not is_file
                    ]
                    await received.publish()
                assert published(Path(folder)) == {
                    f"f{n}": body for n, (is_file, body) in enumerate(parts) if is_file
                }

    asyncio.run(check())


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_form_that_breaks_off_anywhere_leaves_nothing(data):
    body = form(text("t", "x"), file("a", b"x" * 500), file("b", b"y" * 500))
    cut = data.draw(st.integers(0, len(body) - len("--\r\n") - 1))

    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with running(Path(folder), sqlite=False) as engine, leaving_nothing(engine):
                for length in (len(body), None):
                    sender = Wire(length)
                    sender.send(body[:cut])
                    sender.cut()
                    with pytest.raises(IncompleteBody):
                        async with engine.receive_form(
                            sender.source,
                            FormRequest(TYPE, place=lambda _: AsFile(name="n", threshold=9)),
                        ):
                            raise AssertionError
                assert published(Path(folder)) == {}

    asyncio.run(check())


def test_slices_are_found_in_their_buffer():
    buffer = bytearray(b"0123456789")
    whole = memoryview(buffer)
    assert located(whole[3:7]) == (buffer, 3)
    assert located(whole[3:][2:4]) == (buffer, 5)
    assert located(whole[:4]) == (buffer, 0)
    for other in (whole, whole[4:4], whole[::2], memoryview(b"0123")[1:], whole.toreadonly()[2:]):
        assert located(other) == (other, 0)


# --- limits ----------------------------------------------------------------------------------


@on_a_loop
async def test_each_limit_names_its_flag_and_leaves_nothing(tmp_path):
    cases: list[tuple[dict[str, Any], bytes, str]] = [
        ({"form_max_parts": 1}, form(text("a", ""), file("b", b"")), "--form-max-parts"),
        ({"form_max_fields": 1}, form(text("a", ""), text("b", "")), "--form-max-fields"),
        ({"form_max_files": 1}, form(file("a", b"x"), file("b", b"")), "--form-max-files"),
        ({"form_max_field_size": 5}, form(file("a", b"x"), text("b", "123456")), "field-size"),
        ({"form_max_fields_size": 5}, form(text("a", "123"), text("b", "456")), "fields-size"),
        ({"max_size": 5}, form(file("a", b"12345"), file("b", b"123456")), "--max-size"),
        ({"form_max_size": 20}, form(file("a", b"")), "--form-max-size"),
        ({"form_max_part_head": 256}, form(file("a" * 300, b"")), "--form-max-part-head"),
    ]
    async with running(tmp_path) as engine, leaving_nothing(engine):
        defaults = engine.settings
        for changes, body, flag in cases:
            engine.settings = defaults.replace(**changes)
            for length in (True, False):
                with pytest.raises(TooLarge, match=flag):
                    async with engine.receive_form(
                        wire(body, length=length), FormRequest(TYPE)
                    ) as received:
                        await received.publish()
        assert published(tmp_path) == {}


@on_a_loop
async def test_a_large_field_is_refused_kept_or_put_on_the_disk(tmp_path):
    limits = form_limits(max_field_size=10, max_fields_size=100)
    body = form(text("small", "x" * 10), text("large", "x" * 50), text("small", "y"))
    async with running(tmp_path) as engine, leaving_nothing(engine):
        with pytest.raises(TooLarge, match="--form-max-field-size"):
            await publish(engine, body, limits=limits)
        more: dict[str, Any] = {"limits": limits, "large_fields": LargeField.MEMORY}
        async with engine.receive_form(wire(body), FormRequest(TYPE, **more)) as received:
            assert received.fields["large"] == "x" * 50
        with pytest.raises(TooLarge, match="--form-max-fields-size"):
            await publish(engine, form(*[text("t", "x" * 51)] * 2), **more)
        more["large_fields"] = LargeField.DISK
        for cuts in ((), range(0, len(body), 7)):
            async with engine.receive_form(
                wire(body, *cuts), FormRequest(TYPE, **more)
            ) as received:
                assert received.fields.getall("small") == ["x" * 10, "y"]
                large = received.files["large"]
                assert (large.kind, large.filename) == ("file", None)
                assert await large.read() == b"x" * 50
                assert await received.publish() == []
        with pytest.raises(TooLarge, match="--form-max-fields-size"):
            await publish(engine, form(*[text("t", "x" * 10)] * 11), **more)
    assert published(tmp_path) == {}


@on_a_loop
async def test_ten_thousand_fields_count_against_the_memory_of_all(tmp_path):
    body = form(*[text(f"field-{n}", "x" * 20) for n in range(10_000)])
    limits = {"form_max_parts": 10_000, "form_max_fields": 10_000}
    async with running(tmp_path, **limits) as engine, leaving_nothing(engine):
        async with engine.receive_form(wire(body), FormRequest(TYPE)) as received:
            assert len(received.fields) == 10_000
            assert received.fields["field-9999"] == "x" * 20
            assert engine.context.budget.used > 10_000 * 500
        small = {"memory_budget": 2 * MiB, "memory_threshold": 1 * MiB}
        engine.settings = engine.settings.replace(**small)
        with pytest.raises(TooManyUploads, match="--memory-budget"):
            await publish(engine, body)


@on_a_loop
async def test_a_placement_refuses_drops_renames_and_limits(tmp_path):
    def place(head: PartHead) -> Placement:
        if head.name == "dropped":
            return Dropped()
        if head.name == "typed":
            return AsFile(accept_types=("image/*",))
        if head.name == "limited":
            return AsFile(max_size=4) if head.is_file else AsField(max_size=4)
        if head.name == "refused":
            raise UnsupportedMediaType("not this one")
        return AsFile(folder="in/box", name="chosen", conflict=Conflict.REFUSE)

    async with running(tmp_path) as engine, leaving_nothing(engine):
        body = form(file("x", b"1", "dropped"), text("dropped", "x"), file("../../y", b"2", "z"))
        (outcome,) = await publish(engine, body, place=place)
        assert outcome.stored.file.name == "in/box/chosen"
        with pytest.raises(NameTaken):  # before a byte of it is read
            await publish(engine, form(file("y", b"2", "z")), place=place)
        with pytest.raises(UnsupportedMediaType, match=r"text/plain.*'typed'"):
            await publish(engine, form(file("p", b"", "typed", "text/plain")), place=place)
        await publish(engine, form(file("p", b"", "typed", "image/png")), place=place)
        with pytest.raises(UnsupportedMediaType, match="not this one"):
            await publish(
                engine,
                form(file("q", b"x", "typed", "image/png"), text("refused", "")),
                place=place,
            )
        for large in (file("p", b"12345", "limited"), text("limited", "12345")):
            with pytest.raises(TooLarge, match=r"larger than 4 bytes.*'limited'"):
                await publish(engine, form(large), place=place)
    assert published(tmp_path) == {"in/box/chosen": b"2", "p": b""}


# --- publication -----------------------------------------------------------------------------


def refusing(engine: Engine, name: str) -> None:
    hooks = engine.hooks
    assert isinstance(hooks, PythonHooks)

    async def verify(candidate: Candidate) -> None:
        if candidate.name == name:
            with candidate.open() as reader:
                raise VerificationRefused(f"{candidate.name}: {reader.read()!r}")

    hooks.verifiers.append(verify)


@on_a_loop
async def test_one_refused_file_refuses_all_or_itself_alone(tmp_path):
    body = form(file("a", b"1"), file("bad", b"2"), file("c", b"3"))
    told: list[str] = []
    async with running(tmp_path) as engine, leaving_nothing(engine):
        refusing(engine, "bad")

        async def complete(completion: Completion) -> None:
            told.append(completion.stored.file.name)

        engine.hooks.completers.append(complete)
        with pytest.raises(VerificationRefused, match="bad: b'2'"):
            await publish(engine, body)
        assert published(tmp_path) == {}
        assert told == []
        outcomes = await publish(engine, body, FormPolicy.EACH)
        assert [type(outcome.error) for outcome in outcomes] == [
            type(None),
            VerificationRefused,
            type(None),
        ]
    assert published(tmp_path) == {"a": b"1", "c": b"3"}
    assert told == ["a", "c"]


@on_a_loop
async def test_each_file_is_authorised_by_its_name_where_there_is_a_context(tmp_path):
    asked: list[tuple[str, str, Any]] = []

    async def authorise(access: Access) -> bool:
        asked.append((access.action, access.name, access.context))
        return access.name != "in/secret"

    def place(head: PartHead) -> Placement:
        return AsFile(folder="in")

    context = {"who": "somebody"}
    body = form(file("open", b"1"), file("secret", b"2"))
    async with running(tmp_path) as engine, leaving_nothing(engine):
        engine.hooks.authoriser = authorise
        with pytest.raises(Forbidden):
            await publish(engine, body, place=place, context=context)
        assert asked == [("create", "in/open", context), ("create", "in/secret", context)]
        assert published(tmp_path) == {}
        outcomes = await publish(engine, body, FormPolicy.EACH, place=place, context=context)
        assert [type(outcome.error) for outcome in outcomes] == [type(None), Forbidden]
        del asked[:]
        await publish(engine, form(file("secret", b"3")), place=place)
        assert asked == []
    assert published(tmp_path) == {"in/open": b"1", "in/secret": b"3"}


@on_a_loop
async def test_a_hook_that_fails_leaves_nothing_with_either_policy(tmp_path):
    async def verify(candidate: Candidate) -> None:
        if candidate.name == "b":
            raise ZeroDivisionError

    async with running(tmp_path) as engine, leaving_nothing(engine):
        engine.hooks.verifiers.append(verify)
        for policy in FormPolicy:
            with pytest.raises(ZeroDivisionError):
                await publish(engine, form(file("a", b"1"), file("b", b"2" * 3 * MiB)), policy)
        engine.hooks.verifiers.clear()
        with pytest.raises(ZeroDivisionError):
            await publish(engine, form(file("a", b"1")), place=lambda _: 1 // 0)
    assert published(tmp_path) == {}


@on_a_loop
async def test_with_each_a_refused_file_is_dropped_and_the_others_are_stored(tmp_path):
    (tmp_path / "taken").write_bytes(b"")

    def place(head: PartHead) -> Placement:
        if head.filename == "never":
            raise UnsupportedMediaType("never")
        types = ("image/*",) if head.filename == "typed" else ()
        return AsFile(conflict=Conflict.REFUSE, accept_types=types, max_size=5 * MiB)

    body = form(
        file("never", b"x" * 1000),
        file("good", b"1"),
        file("large", b"x" * 6 * MiB),
        file("typed", b"x", kind="text/plain"),
        file("taken", b"x" * 1000),
        file(".hidden", b"x"),
        file("better", b"2" * 3 * MiB),
    )
    refused = (UnsupportedMediaType, TooLarge, UnsupportedMediaType, NameTaken, InvalidName)
    async with running(tmp_path) as engine, leaving_nothing(engine):
        for length in (True, False):
            source = wire(body, *range(0, len(body), 700_001), length=length)
            async with engine.receive_form(
                source, FormRequest(TYPE, policy=FormPolicy.EACH, place=place)
            ) as received:
                assert [f.filename for f in received.files.getall("file")] == [
                    "good",
                    ".hidden",
                    "better",
                ]
                outcomes = await received.publish()
            assert [outcome.filename for outcome in outcomes if outcome.stored] == [
                "good",
                "better",
            ]
            errors = [outcome.error for outcome in outcomes if outcome.error]
            assert tuple(map(type, errors)) == refused
            (tmp_path / "good").unlink()
            (tmp_path / "better").unlink()
        with pytest.raises(MalformedBody):  # what is wrong with the form itself ends it
            await publish(engine, form(file("good", b"1"), b"x: y\r\n\r\n"), FormPolicy.EACH)
    assert published(tmp_path) == {"taken": b""}


def place_refusing_taken(head: PartHead) -> Placement:
    return AsFile(conflict=Conflict.REFUSE)


@on_a_loop
async def test_when_a_later_file_cannot_be_published_the_earlier_are_taken_back(tmp_path):
    body = form(file("a", b"1"), file("b", b"2"), file("a", b"3"))
    async with running(tmp_path) as engine, leaving_nothing(engine):
        with pytest.raises(NameTaken):
            await publish(engine, body, place=place_refusing_taken)
        assert published(tmp_path) == {}
        outcomes = await publish(engine, body, FormPolicy.EACH, place=place_refusing_taken)
        assert [outcome.stored is None for outcome in outcomes] == [False, False, True]
    assert published(tmp_path) == {"a": b"1", "b": b"2"}


@on_a_loop
async def test_a_store_in_memory_takes_forms_too(tmp_path):
    body = form(file("a", b"1"), file("b", b"2" * 3 * MiB), file("a", b"3"))
    store = MemoryStore(numbered=numbered)
    engine = Engine(Settings(dir=str(tmp_path), min_free=0), store)
    try:
        with pytest.raises(NameTaken):
            await publish(engine, body, place=place_refusing_taken)
        assert store.list_folder("") == []
        outcomes = await publish(engine, body)
        names = [outcome.stored.file.name for outcome in outcomes]
        assert names == ["a", "b", "a (1)"]
        assert store.stat("b").size == 3 * MiB
    finally:
        engine.close()


@on_a_loop
async def test_what_another_put_in_the_place_meanwhile_is_not_taken_back(tmp_path):
    body = form(file("a", b"1"), file("b", b"2"), file("b", b"3"))
    async with running(tmp_path) as engine, leaving_nothing(engine):
        real = engine.store.check_target
        seen: list[str] = []

        async with engine.receive_form(
            wire(body), FormRequest(TYPE, place=place_refusing_taken)
        ) as received:
            last = received.files.getall("file")[-1]
            publish_now = last.publish_now

            def after_another_replaced_a(how: Any) -> Any:
                (tmp_path / "new").write_bytes(b"of somebody else")
                os.replace(tmp_path / "new", tmp_path / "a")
                seen.append("replaced")
                return publish_now(how)

            last.publish_now = after_another_replaced_a
            with pytest.raises(NameTaken):
                await received.publish()
        assert seen == ["replaced"]
        assert real is not None
    assert published(tmp_path) == {"a": b"of somebody else"}


@on_a_loop
async def test_what_replaces_comes_last(tmp_path):
    """It cannot be taken back, so nothing may fail after it that can fail before."""
    (tmp_path / "old").write_bytes(b"old")

    def place(head: PartHead) -> Placement:
        replaces = head.filename == "old"
        return AsFile(conflict=Conflict.REPLACE if replaces else Conflict.REFUSE)

    body = form(file("old", b"new"), file("a", b"1"), file("a", b"2"))
    async with running(tmp_path) as engine, leaving_nothing(engine):
        with pytest.raises(NameTaken):
            await publish(engine, body, place=place)
    assert published(tmp_path) == {"old": b"old"}


# --- disk and disconnect ---------------------------------------------------------------------


@on_a_loop
async def test_a_form_that_cannot_fit_is_refused_before_it_is_read(tmp_path):
    async with running(tmp_path) as engine, leaving_nothing(engine):
        free = engine.store.space().free
        sender = Wire(2 * free)
        with pytest.raises(DiskFull):
            async with engine.receive_form(sender.source, FormRequest(TYPE)):
                raise AssertionError


@on_a_loop
async def test_room_that_must_stay_free_is_asked_for_as_a_file_grows(tmp_path):
    async with running(tmp_path) as engine, leaving_nothing(engine):
        engine.store.min_free = engine.store.space().free - 8 * MiB
        body = form(file("a", b"x" * 12 * MiB))
        with pytest.raises(DiskFull):
            async with engine.receive_form(
                wire(body, *range(0, len(body), MiB), length=False), FormRequest(TYPE)
            ):
                raise AssertionError


@on_a_loop
async def test_what_was_reserved_and_not_used_is_given_back(tmp_path):
    body = form(*[file(f"{n}", b"x" * (2 * MiB)) for n in range(3)])
    async with running(tmp_path) as engine, leaving_nothing(engine):
        source = wire(body, *range(0, len(body), 256 * KiB), length=False)
        more: dict[str, Any] = {"place": lambda _: AsFile(threshold=0)}
        async with engine.receive_form(source, FormRequest(TYPE, **more)) as received:
            for _, file_ in received.files.multi_items():
                with file_.open() as reader:
                    assert os.fstat(reader.fileno()).st_blocks * 512 <= 3 * MiB


@on_a_loop
async def test_a_request_cancelled_at_any_moment_leaves_nothing(tmp_path):
    body = form(file("a", b"x" * 3 * MiB), file("b", b"y" * 3 * MiB))
    async with running(tmp_path, memory_threshold=64 * KiB) as engine, leaving_nothing(engine):
        for pauses in range(12):
            sender = Wire(len(body))

            async def receive(sender: Wire = sender) -> Form:
                async with engine.receive_form(sender.source, FormRequest(TYPE)) as received:
                    await asyncio.sleep(30)
                    return received

            task = asyncio.create_task(receive())
            for start in range(0, len(body), MiB):
                sender.send(body[start : start + MiB], last=start + MiB >= len(body))
            for _ in range(pauses):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert published(tmp_path) == {}
