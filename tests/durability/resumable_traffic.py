"""Clients of resumable uploads that come back until their files are there.

They tell the history what they send and what they are told, and judge nothing but the form
of an answer.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence

from durability.content import content, digest
from durability.resumable_history import Piece, ResumableHistory, Upload
from ietf import client as ietf
from raw_http import Answer, Fields, RawClient, request
from tus import client as tus

SIZES = (20, 100, 4096, 70_000, 1 << 20, 3_000_000, 9_000_001, 40 << 20)
_WEIGHTS = (2, 2, 3, 6, 6, 5, 4, 1)
_PATIENCE = 60.0
_BUSY = 503
"""After this the same is asked again."""


class Place:
    """Where the server is just now. Clients wait here while there is none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._port: int | None = None
        self._closed = False

    def close(self) -> None:
        """There will be none any more: clients give up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def move(self, port: int | None) -> None:
        with self._changed:
            self._port = port
            self._changed.notify_all()

    @property
    def port(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._port is not None or self._closed, _PATIENCE)
            assert self._port is not None and not self._closed, "there is no server"
            return self._port

    # What `tus.client` and `ietf.client` need of a server:

    def connect(self, timeout: float = _PATIENCE) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        return request(self, method, path, body, headers)


class BrokenOffError(Exception):
    """No answer came."""


@contextlib.contextmanager
def unanswered() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        raise BrokenOffError from error


class Client:
    """What one upload has in common with every other, whatever it speaks."""

    dialect: str

    def __init__(self, place: Place, history: ResumableHistory, rng: random.Random) -> None:
        self._place = place
        self._history = history
        self._rng = rng
        self._upload: Upload
        self._data = b""

    def new(self, target: str, method: str, seed: str, size: int) -> Upload:
        self._data = content(seed, size)
        made = Upload(target, method, self.dialect, seed, size, digest(seed, size))
        self._upload = made
        self._history.begin(made)
        return made

    # In each dialect:

    def create(self) -> None:
        """Asks for the upload once. Raises BrokenOffError."""
        raise NotImplementedError

    def where(self) -> int:
        """The offset that the server tells. Raises BrokenOffError."""
        raise NotImplementedError

    def step(self, offset: int) -> int:
        """Does something at `offset`; where it is then. Raises BrokenOffError."""
        raise NotImplementedError

    def finish(self, offset: int) -> int:
        """Sends all the rest. Raises BrokenOffError."""
        raise NotImplementedError

    # And the same for all:

    def come_back(self) -> int:
        """Asks until an answer comes."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.where()
            except BrokenOffError:
                self._history.break_off()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def go_on(self, *, stop_at: int | None = None) -> None:
        """Until it is finished, or not before `stop_at` bytes."""
        offset = self.come_back()
        while not self._upload.finished and (stop_at is None or offset < stop_at):
            try:
                offset = self.step(offset)
            except BrokenOffError:
                self._history.break_off()
                offset = self.come_back()

    def end(self) -> None:
        """To its end without detours: no fault is left in the way."""
        offset = self.come_back()
        if not self._upload.finished:
            self.finish(offset)

    def _length_of_piece(self, offset: int) -> int:
        """Small ones more often, yet an upload ends in some twelve steps."""
        rest = len(self._data) - offset
        most = max(1, min(rest, len(self._data) // self._rng.choice((1, 2, 4, 8))))
        least = max(1, len(self._data) // 24)
        return min(rest, self._rng.randint(min(least, most), most))

    def _is_busy(self, status: int) -> bool:
        if status == _BUSY:
            time.sleep(0.01)
        return status == _BUSY

    def _lost(self, by: str, began: int) -> AssertionError:
        self._history.tell(self._upload, by, began, None)
        return AssertionError(f"{self._upload}: {by} says that there is none")


class TusClient(Client):
    dialect = "tus"

    def __init__(self, place: Place, history: ResumableHistory, rng: random.Random) -> None:
        super().__init__(place, history, rng)
        self._deferred = rng.random() < 0.3
        self._told_length = False

    def _ask(self, method: str, path: str, body: bytes | None = None, **fields: object):
        with unanswered():
            return tus.ask(self._place, method, path, body, **fields)  # type: ignore[arg-type]

    def create(self) -> None:
        upload, size = self._upload, len(self._data)
        fields: dict[str, object] = {
            "Upload_Metadata": tus.metadata(filename=upload.target, filetype="x/y")
        }
        fields |= {"Upload_Defer_Length": 1} if self._deferred else {"Upload_Length": size}
        body, piece = None, None
        if self._rng.random() < 0.35:  # creation-with-upload
            count = self._rng.randint(1, size)
            checked = self._rng.random() < 0.3
            body, piece = self._data[:count], Piece(0, count, checked=checked)
            fields["Content_Type"] = tus.STREAM
            if checked:
                fields["Upload_Checksum"] = tus.checksum(body)
        began = self._history.ask(upload, piece)
        reply = self._ask("POST", "/uploads/", body, **fields)
        if "location" in reply.fields:
            upload.location = reply.location
            self._history.tell(upload, "POST", began, 0)
        if reply.status == 201:
            offset = reply.offset if body is not None else 0
            whole = not self._deferred and offset == size
            self._history.tell(upload, "POST", began, offset, complete=whole)
        elif not self._is_busy(reply.status):
            raise AssertionError(f"{upload}: {reply}")

    def where(self) -> int:
        upload = self._upload
        assert upload.location is not None
        while True:
            began = self._history.ask(upload)
            reply = self._ask("HEAD", upload.location)
            if reply.status == 200:
                known = reply.fields.get("upload-length")
                assert known in (None, str(len(self._data))), reply
                assert known is not None or self._deferred, reply
                done = known is not None and reply.offset == len(self._data)
                self._history.tell(upload, "HEAD", began, reply.offset, complete=done)
                return reply.offset
            self._judge_refusal("HEAD", began, reply)

    def _judge_refusal(self, by: str, began: int, reply: tus.Reply) -> None:
        """What may be tried again, or an AssertionError."""
        if reply.status in (404, 410):
            raise self._lost(by, began)
        if not self._is_busy(reply.status):
            raise AssertionError(f"{self._upload}: {by} {reply}")

    def _fields(self, offset: int, count: int) -> dict[str, object]:
        """Of a PATCH: a deferred length is told now or at the last."""
        last = offset + count == len(self._data)
        if self._deferred and (self._told_length or last or self._rng.random() < 0.2):
            self._told_length = True
            return {"Upload_Length": len(self._data)}
        return {}

    def step(self, offset: int) -> int:
        roll = self._rng.random()
        if offset == len(self._data):  # only its length was never told
            return self._patch(offset, b"")
        if roll < 0.10:
            return self.where()
        if roll < 0.22:
            return self._abort(offset)
        if roll < 0.34:
            return self._be_taken_over(offset)
        if roll < 0.40:
            return self._patch(offset + 1 + self._rng.randrange(5), b"wrong place", right=False)
        if roll < 0.50:
            return self._lie(offset)
        count = self._length_of_piece(offset)
        return self._patch(offset, self._data[offset : offset + count], self._rng.random() < 0.3)

    def finish(self, offset: int) -> int:
        return self._patch(offset, self._data[offset:])

    def _patch(self, offset: int, body: bytes, checked: bool = False, *, right: bool = True) -> int:
        """A request and its answer; not `right`: at an offset that is not the upload's."""
        upload = self._upload
        fields = self._fields(offset, len(body)) if right else {}
        if checked:
            fields["Upload_Checksum"] = tus.checksum(body, self._rng.choice(("sha1", "sha256")))
        piece = Piece(offset, offset + len(body), checked=checked) if right else None
        began = self._history.ask(upload, piece)
        assert upload.location is not None
        with unanswered():
            reply = tus.patch(self._place, upload.location, offset, body, **fields)  # type: ignore[arg-type]
        if reply.status in (204, 409):
            whole = reply.status == 204 and reply.offset == len(self._data)
            done = whole and (not self._deferred or "Upload_Length" in fields)
            self._history.tell(upload, f"PATCH {reply.status}", began, reply.offset, complete=done)
            assert right or reply.status == 409, reply
            return reply.offset
        if not right and reply.status == 413:  # the length is looked at before the place
            return self.where()
        self._judge_refusal("PATCH", began, reply)
        return self.where()

    def _lie(self, offset: int) -> int:
        """Bytes under a checksum that is not theirs: none of them may count."""
        count = self._length_of_piece(offset)
        asked = f"Upload-Checksum: {tus.checksum(self._data[offset : offset + count])}"
        piece = Piece(offset, offset + count, checked=True, right=False)
        with self._half(piece, asked) as client:
            if self._rng.random() < 0.5:  # and they never come whole: the server may die first
                client.send(bytes(self._rng.randrange(count)))
                self._history.wait_for(self._history.events + 20, timeout=0.2)
            else:
                client.send(bytes(count))
                status = client.response()[0]
                # 409: of a request that was given up, what had been sent came to be read only now.
                assert status in (460, 409, _BUSY), f"{self._upload}: {status} to a wrong checksum"
        return self.where()

    @contextlib.contextmanager
    def _half(self, piece: Piece, *more: str) -> Iterator[RawClient]:
        """A request of which only the head is sent."""
        self._history.ask(self._upload, piece)
        count = piece.end - piece.start
        told = self._fields(piece.start, count).items()
        fields = [f"Content-Length: {count}", *more]
        fields += [f"{name.replace('_', '-')}: {value}" for name, value in told]
        assert self._upload.location is not None
        with unanswered(), RawClient(self._place) as client:  # type: ignore[arg-type]
            client.send(tus.patch_head(self._upload.location, piece.start, *fields))
            yield client

    def _abort(self, offset: int) -> int:
        count = self._length_of_piece(offset)
        with self._half(Piece(offset, offset + count)) as client:
            sent = self._rng.randint(0, count)
            client.send(self._data[offset : offset + sent])
            match self._rng.choice(("close", "reset", "half")):
                case "reset":
                    client.reset()
                case "half":
                    client.half_close()
                    client.response()
        return self.where()

    def _be_taken_over(self, offset: int) -> int:
        """It stalls while it holds the upload; another connection goes on."""
        count = self._length_of_piece(offset)
        with self._half(Piece(offset, offset + count), "Expect: 100-continue") as stalled:
            if stalled.head()[0] != 100:
                return self.where()
            sent = self._rng.randrange(count)
            stalled.send(self._data[offset : offset + sent])
            if self._rng.random() < 0.5:
                offset = self.where()
                with contextlib.suppress(OSError):
                    stalled.send(bytes(min(1000, count - sent)))  # nobody listens any more
            rest = self._length_of_piece(offset)
            return self._patch(offset, self._data[offset : offset + rest])


class IetfClient(Client):
    dialect = "ietf"

    def _talk(
        self, by: str, began: int, request: bytes, body: bytes, *, stop: str | None = None
    ) -> tuple[int, Fields]:
        """One request; what is said before its answer counts as well, also when none comes."""
        upload = self._upload
        with unanswered(), ietf.Client(self._place) as client:  # type: ignore[arg-type]
            with contextlib.suppress(OSError):  # refused or killed: what was said is still read
                client.send(request + body)
                if stop == "half":
                    client.half_close()
                elif stop == "close":
                    client.close()
            while True:
                status, fields = client.head()
                if status == 104 and "location" in fields:
                    upload.location = fields["location"]
                    self._history.tell(upload, f"{by} 104", began, 0)
                elif status == 104:
                    self._history.tell(upload, f"{by} 104", began, int(fields["upload-offset"]))
                if status >= 200:
                    return status, fields

    def create(self) -> None:
        upload, size = self._upload, len(self._data)
        count = size if self._rng.random() < 0.4 else self._rng.randint(0, size)
        last = count == size
        fields = [ietf.v(), f"Upload-Complete: ?{int(last)}", f"Upload-Length: {size}"]
        path = f"/files/{upload.target}"
        if upload.method == "POST":
            path = f"/files/?name={upload.target}"
        began = self._history.ask(upload, Piece(0, count))
        head = ietf.head(upload.method, path, *fields, length=count)
        status, found = self._talk(upload.method, began, head, self._data[:count])
        if status in (200, 201):
            if not last:
                upload.location = found["location"]  # in the answer to the last, it is the file's
                self._history.tell(upload, "creation", began, int(found["upload-offset"]))
            else:
                self._history.tell(upload, "creation", began, size, complete=True)
        elif not self._is_busy(status):
            raise AssertionError(f"{upload}: {status} {found}")

    def where(self) -> int:
        upload = self._upload
        assert upload.location is not None
        while True:
            began = self._history.ask(upload)
            with unanswered():
                reply = ietf.ask(self._place, "HEAD", upload.location, ietf.v())  # type: ignore[arg-type]
            if reply.status in (404, 410):
                raise self._lost("HEAD", began)
            if reply.status == 204:
                done = reply.complete == "?1"
                self._history.tell(upload, "HEAD", began, reply.offset, complete=done)
                return reply.offset
            if not self._is_busy(reply.status):
                raise AssertionError(f"{upload}: {reply}")

    def step(self, offset: int) -> int:
        roll = self._rng.random()
        rest = len(self._data) - offset
        if roll < 0.1:
            return self.where()
        if roll < 0.3 and rest:
            stop = self._rng.choice(("half", "close"))
            return self._append(offset, self._rng.randrange(rest), announced=rest, stop=stop)
        if roll < 0.5:
            return self._append(offset, rest)
        return self._append(offset, self._length_of_piece(offset) if rest else 0)

    def finish(self, offset: int) -> int:
        return self._append(offset, len(self._data) - offset)

    def _append(
        self, offset: int, count: int, *, announced: int | None = None, stop: str | None = None
    ) -> int:
        upload = self._upload
        length = count if announced is None else announced
        last = offset + length == len(self._data)
        began = self._history.ask(upload, Piece(offset, offset + count))
        head = ietf.Upload(self._place, upload.location).head(  # type: ignore[arg-type]
            offset, ietf.v(), last=last, length=length
        )
        body = self._data[offset : offset + count]
        status, found = self._talk("PATCH", began, head, body, stop=stop)
        if status in (404, 410):
            raise self._lost("PATCH", began)
        if status in (200, 201, 204) and found.get("upload-complete", "?1") == "?1":
            self._history.tell(upload, "PATCH", began, len(self._data), complete=True)
            return len(self._data)
        if "upload-offset" in found:
            told = int(found["upload-offset"])
            done = found.get("upload-complete") == "?1"
            self._history.tell(upload, f"PATCH {status}", began, told, complete=done)
            if status in (204, 409):
                return told
        if stop is None and not self._is_busy(status):
            raise AssertionError(f"{upload}: {status} {found}")
        return self.where()


class Traffic(threading.Thread):
    """One client after another, as many as there are numbers left."""

    def __init__(
        self,
        place: Place,
        history: ResumableHistory,
        seed: str,
        numbers: Iterator[int],
        shared: Sequence[str],
    ) -> None:
        super().__init__(name="resumable traffic", daemon=True)
        self._place = place
        self._history = history
        self._seed = seed
        self._numbers = numbers
        self._shared = shared
        self.paused: list[Client] = []
        self.lost_creations = 0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            for number in self._numbers:
                self._run_one(number)
        except BaseException as error:
            self.problem = error

    def _run_one(self, number: int) -> None:
        rng = random.Random(f"{self._seed}-{number}")
        client_class = rng.choices((TusClient, IetfClient), (3, 1))[0]
        size = rng.choices(SIZES, _WEIGHTS)[0]
        pauses = rng.random() < 0.2
        for attempt in range(1000):
            client = client_class(self._place, self._history, rng)
            seed = f"{self._seed}-{number}-{attempt}"
            method = "POST"
            if client_class is IetfClient:
                method = rng.choice(("PUT", "POST"))
            shares = method == "POST" and rng.random() < 0.3
            target = rng.choice(self._shared) if shares else f"{number}-{attempt}.bin"
            upload = client.new(target, method, seed, size)
            try:
                client.create()
            except BrokenOffError:
                self._history.break_off()
            if upload.location is not None or upload.finished:
                break
            self.lost_creations += 1  # nobody knows where it is: another one
        if pauses and upload.location is not None:
            client.go_on(stop_at=rng.randrange(size))
        elif upload.location is not None:
            client.go_on()
        if not upload.finished:
            self.paused.append(client)


@contextlib.contextmanager
def traffic(
    place: Place, history: ResumableHistory, seed: str, count: int
) -> Iterator[list[Traffic]]:
    """Five clients at a time, until `count` uploads have been made, as far as each goes."""
    numbers = _Numbers(count)
    shared = [f"shared-{n}.bin" for n in range(3)]
    clients = [Traffic(place, history, seed, numbers, shared) for _ in range(5)]
    for client in clients:
        client.start()
    try:
        yield clients
    except BaseException:
        place.close()
        raise
    for client in clients:
        client.join(_PATIENCE * 2)
        if client.problem is not None:
            raise client.problem
    assert not any(client.is_alive() for client in clients), "clients hang"


class _Numbers(Iterator[int]):
    """Numbers for many threads."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._left = iter(range(count))

    def __next__(self) -> int:
        with self._lock:
            return next(self._left)
