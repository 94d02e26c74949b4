"""`python -m bench.multipart_parsers`: GB/s of multipart parsers, one file part, no IO.

Every parser gets the same pieces of 1 MiB and of 64 KiB, cut before the clock runs, and does
nothing with the content but count it. Parsers that are not installed are left out:
`pip install python-multipart multipart streaming-form-data`. The best of the rounds counts,
in CPU time, so that other load on the machine disturbs little.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator

WEBKIT = b"----WebKitFormBoundary7MA4YWxkTrZu0gW"
CURL = b"------------------------d74496d66958873e4AbCdE"
DASHES = b"-" * 70
HOSTILE = b"b" + b"a" * 69
"""With text of its own letter: the worst that was found for two-way search."""

Parse = Callable[[bytes, list[bytes]], int]


# --- parsers: each returns how many bytes of content it saw ---------------------------------


class FormCounter:
    """A handler for Forebay's parser."""

    size = 0

    def begin_part(self, head: object) -> None: ...

    def part_data(self, data: memoryview) -> None:
        self.size += len(data)

    def end_part(self) -> None: ...


def forebay(boundary: bytes, pieces: list[bytes]) -> int:
    from forebay.config import Settings
    from forebay.engine.forms.request import limits_of
    from forebay.protocol.multipart import MultipartParser

    counter = FormCounter()
    parser = MultipartParser(boundary, limits_of(Settings()), counter)
    for piece in pieces:
        parser.decode(piece)
    parser.finish()
    return counter.size


def python_multipart(boundary: bytes, pieces: list[bytes]) -> int:
    from python_multipart.multipart import MultipartParser

    size = 0

    def on_data(data: bytes, start: int, end: int) -> None:
        nonlocal size
        size += end - start

    parser = MultipartParser(boundary, {"on_part_data": on_data})
    for piece in pieces:
        parser.write(piece)
    parser.finalize()
    return size


def defnull_multipart(boundary: bytes, pieces: list[bytes]) -> int:
    from multipart import PushMultipartParser

    size = 0
    with PushMultipartParser(boundary, max_segment_size=1 << 40) as parser:
        for piece in pieces:
            for event in parser.parse(piece):
                if isinstance(event, (bytes, bytearray, memoryview)):
                    size += len(event)
    return size


def streaming_form_data(boundary: bytes, pieces: list[bytes]) -> int:
    from streaming_form_data import StreamingFormDataParser
    from streaming_form_data.targets import BaseTarget

    class Counter(BaseTarget):
        size = 0

        def on_data_received(self, chunk: bytes) -> None:
            self.size += len(chunk)

    counter = Counter()
    kind = b"multipart/form-data; boundary=" + boundary
    parser = StreamingFormDataParser({"Content-Type": kind.decode()})
    parser.register("f", counter)
    for piece in pieces:
        parser.data_received(piece)
    return counter.size


PARSERS: dict[str, Parse] = {
    "forebay": forebay,
    "python-multipart": python_multipart,
    "multipart": defnull_multipart,
    "streaming-form-data": streaming_form_data,
}


# --- bodies ---------------------------------------------------------------------------------


def contents(size: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, boundary and content, each `size` bytes long."""

    def filled(unit: bytes) -> bytes:
        return (unit * (size // len(unit) + 1))[:size]

    def with_returns(unit: bytes) -> bytes:
        """No stretch without CR, so that nothing can be skipped by looking for one."""
        return filled((unit * 200)[:199] + b"\r")

    almost = b"\r\n--" + WEBKIT[:-1]
    yield "random", WEBKIT, os.urandom(size)
    yield "random, curl's boundary", CURL, os.urandom(size)
    yield "text, LF", WEBKIT, filled(b"The quick brown fox jumps over the lazy dog,\n")
    yield "text, CRLF", WEBKIT, filled(b"The quick brown fox jumps over the lazy dog,\r\n")
    yield "zeros", WEBKIT, bytes(size)
    yield "CR", WEBKIT, filled(b"\r")
    yield "CRLF", WEBKIT, filled(b"\r\n")
    yield "CRLF--", WEBKIT, filled(b"\r\n--")
    yield "almost the delimiter", WEBKIT, filled(almost)
    yield "almost, last byte wrong", WEBKIT, filled(almost + b"!")
    yield "boundary without CRLF", WEBKIT, with_returns(WEBKIT)
    yield "bytes of the boundary", WEBKIT, bytes(random.Random(1).choices(b"\r" + WEBKIT, k=size))
    yield "its last but one byte", WEBKIT, with_returns(WEBKIT[-2:-1])
    yield "70 dashes on dashes", DASHES, filled(b"-")
    yield "70 dashes on dashes, CRs", DASHES, with_returns(b"-")
    yield "hostile boundary", HOSTILE, with_returns(b"a")
    yield "boundary of 1 byte", b"x", os.urandom(size).replace(b"\r\n--x", b"\r\n--y")


def body(boundary: bytes, content: bytes) -> bytes:
    head = b'--%s\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' % boundary
    # not at the start of a line: there even dashes alone may be the delimiter
    return head + b"=" + content[1:] + b"\r\n--" + boundary + b"--\r\n"


def rate(parse: Parse, boundary: bytes, content: bytes, piece: int, rounds: int) -> float:
    """GB/s, 0 when the parser failed or lost content."""
    wire = body(boundary, content)
    pieces = [wire[at : at + piece] for at in range(0, len(wire), piece)]
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        try:
            size = parse(boundary, pieces)
        except Exception:
            return 0.0
        best = min(best, time.thread_time() - began)
        if size != len(content):
            return 0.0
        if best > 1:
            break
    return len(content) / best / 1e9


def installed(names: list[str]) -> dict[str, Parse]:
    found = {}
    for name in names:
        try:
            PARSERS[name](b"x", [body(b"x", b"content")])
        except ImportError:
            print(f"{name} is not installed", file=sys.stderr)
        else:
            found[name] = PARSERS[name]
    return found


def main(argv: list[str]) -> int:
    arguments = argparse.ArgumentParser(prog="python -m bench.multipart_parsers")
    arguments.add_argument("--mib", type=int, default=16, help="size of each body (16)")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--parser", nargs="+", default=list(PARSERS), choices=list(PARSERS))
    args = arguments.parse_args(argv)
    parsers = installed(args.parser)
    for piece in (1 << 20, 64 << 10):
        print(f"\nGB/s, pieces of {piece >> 10} KiB\n")
        print("| body |", " | ".join(parsers), "|")
        print("|---|" + "---|" * len(parsers))
        for name, boundary, content in contents(args.mib << 20):
            rates = [rate(p, boundary, content, piece, args.rounds) for p in parsers.values()]
            print(f"| {name} |", " | ".join(f"{r:.2f}" if r else "fails" for r in rates), "|")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
