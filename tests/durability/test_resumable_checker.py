"""The checker of resumable uploads finds what it is there for: each violation, made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from durability.content import content, digest
from durability.resumable_checker import ResumableChecker
from durability.resumable_history import Piece, ResumableHistory, Upload

SIZE = 100


class Hand:
    """A history and a folder, made by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = ResumableHistory()
        self.checker = ResumableChecker(folder, self.history)

    def upload(self, seed: str = "one", target: str = "a.bin", method: str = "POST") -> Upload:
        """It has sent all of its bytes."""
        made = Upload(target, method, "tus", seed, SIZE, digest(seed, SIZE), f"/uploads/{seed}")
        self.history.begin(made)
        self.history.ask(made, Piece(0, SIZE))
        return made

    def tell(self, upload: Upload, *offsets: int | None, complete: bool = False) -> None:
        """Answers, each to a question that was asked after the one before."""
        for offset in offsets:
            began = self.history.ask(upload)
            self.history.tell(upload, "HEAD", began, offset, complete=complete)

    def store(self, name: str, seed: str = "one", size: int = SIZE) -> None:
        (self.folder / name).write_bytes(content(seed, size))

    def violations(self) -> str:
        return "\n".join(self.checker.check())


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path)


def test_a_run_in_which_all_is_well(hand: Hand) -> None:
    one, two, three = hand.upload(), hand.upload("two"), hand.upload("three")
    hand.tell(one, 0, 0, 40, 100)
    hand.store("a.bin")
    hand.tell(one, 100, complete=True)
    hand.store("a (1).bin", "two")
    hand.tell(two, 100, 100, complete=True)
    hand.tell(three, 0, 50)
    assert hand.violations() == ""


def test_an_offset_that_is_taken_back_is_found(hand: Hand) -> None:
    upload = hand.upload()
    hand.tell(upload, 0, 60, 70, 69)
    assert "offset=69" in hand.violations()
    assert "after" in hand.violations()


def test_an_offset_that_is_taken_back_much_later_is_found(hand: Hand) -> None:
    upload, other = hand.upload(), hand.upload("two")
    hand.tell(upload, 60)
    for offset in range(50):
        hand.tell(other, offset)
    hand.tell(upload, 59)
    assert "offset=59" in hand.violations()


def test_an_answer_that_overtakes_another_is_no_violation(hand: Hand) -> None:
    upload = hand.upload()
    early = hand.history.ask(upload)
    hand.tell(upload, 60)
    hand.history.tell(upload, "PATCH", early, 20)
    assert hand.violations() == ""
    hand.tell(upload, 59)
    assert "offset=59" in hand.violations()


@pytest.mark.parametrize("offset", [0, 60])
def test_an_upload_that_is_forgotten_is_found(hand: Hand, offset: int) -> None:
    hand.tell(hand.upload(), offset, None)
    assert "offset=None" in hand.violations()


def test_a_finished_upload_that_is_unfinished_again_is_found(hand: Hand) -> None:
    upload = hand.upload()
    hand.store("a.bin")
    hand.tell(upload, SIZE, complete=True)
    hand.tell(upload, SIZE)
    assert "complete=False" in hand.violations()


def test_an_offset_beyond_what_was_sent_is_found(hand: Hand) -> None:
    upload = hand.upload()
    hand.tell(upload, SIZE + 1)
    assert "no end of bytes that count" in hand.violations()


@pytest.mark.parametrize(("right", "allowed"), [(True, {0, 50}), (False, {0})])
def test_bytes_of_a_checksum_that_was_not_compared_are_found(
    hand: Hand, right: bool, allowed: set[int]
) -> None:
    for offset in (0, 49, 50):
        upload = Upload("a.bin", "POST", "tus", f"s{offset}", SIZE, digest(f"s{offset}", SIZE))
        hand.history.begin(upload)
        hand.history.ask(upload, Piece(0, 50, checked=True, right=right))
        hand.tell(upload, offset)
        assert (f"s{offset} " in hand.violations()) is (offset not in allowed)


def test_a_finish_that_is_told_before_there_is_a_file_is_found(hand: Hand) -> None:
    upload = hand.upload()
    hand.tell(upload, SIZE, complete=True)
    hand.store("a.bin")
    assert "before there was a file" in hand.violations()


@pytest.mark.parametrize(("name", "size"), [("a.bin", SIZE - 1), ("b.bin", SIZE)])
def test_a_finish_that_is_told_of_another_file_is_found(hand: Hand, name: str, size: int) -> None:
    upload = hand.upload()
    hand.store(name, size=size)
    hand.tell(upload, SIZE, complete=True)
    violations = hand.violations()
    assert "before there was a file" in violations
    assert "not whole, or not of anybody who wanted it" in violations


def test_a_finished_file_that_is_gone_is_found(hand: Hand) -> None:
    upload = hand.upload()
    hand.store("a.bin")
    hand.tell(upload, SIZE, complete=True)
    (hand.folder / "a.bin").unlink()
    assert "is not there" in hand.violations()
    hand.store("a.bin")
    assert hand.violations() == ""
    (hand.folder / "a.bin").unlink()
    assert "was there and is gone" in hand.violations()


def test_an_upload_that_was_stored_twice_is_found(hand: Hand) -> None:
    hand.upload()
    hand.store("a.bin")
    assert hand.violations() == ""
    hand.store("a (1).bin")
    assert "stored more than once: ['a (1).bin', 'a.bin']" in hand.violations()


def test_a_partial_file_is_found_while_uploads_run(hand: Hand) -> None:
    hand.upload()
    hand.store("a.bin", size=SIZE - 1)
    assert "not whole" in hand.checker.check_visible()[0]


def test_a_file_that_changes_is_found(hand: Hand) -> None:
    hand.upload()
    hand.upload("two")
    hand.store("a.bin")
    assert hand.violations() == ""
    (hand.folder / "other").write_bytes(content("two", SIZE))
    (hand.folder / "other").rename(hand.folder / "a.bin")
    assert "has changed" in hand.violations()
