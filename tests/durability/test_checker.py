"""The checker finds what it is there for: each violation, made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from durability.checker import Checker
from durability.content import content, digest
from durability.history import Attempt, History


def attempt(
    history: History, target: str, seed: str, *, name: str | None = None, method: str = "PUT"
) -> Attempt:
    """An upload of 100 bytes; acknowledged when it got a name."""
    made = history.begin(target, method, seed, 100, digest(seed, 100), chunked=False)
    if name is not None:
        history.end(made, 201, name)
    return made


@pytest.fixture
def history() -> History:
    return History()


def test_what_was_acknowledged_and_is_there_is_well(tmp_path: Path, history: History) -> None:
    attempt(history, "a.bin", "one", name="a.bin")
    attempt(history, "a.bin", "two", name="a (1).bin", method="POST")
    attempt(history, "b.bin", "never answered")
    (tmp_path / "a.bin").write_bytes(content("one", 100))
    (tmp_path / "a (1).bin").write_bytes(content("two", 100))
    assert Checker(tmp_path, history).check() == []
    (tmp_path / "b.bin").write_bytes(content("never answered", 100))
    assert Checker(tmp_path, history).check() == []


def test_an_acknowledged_file_that_is_missing_is_found(tmp_path: Path, history: History) -> None:
    attempt(history, "a.bin", "one", name="a.bin")
    assert "is not there" in Checker(tmp_path, history).check()[0]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_partial_file_is_found(tmp_path: Path, history: History, acknowledged: bool) -> None:
    attempt(history, "a.bin", "one", name="a.bin" if acknowledged else None)
    (tmp_path / "a.bin").write_bytes(content("one", 99))
    assert "not whole" in Checker(tmp_path, history).check_visible()[0]
    assert Checker(tmp_path, history).check()


def test_somebody_elses_bytes_are_found(tmp_path: Path, history: History) -> None:
    attempt(history, "a.bin", "one", name="a.bin")
    attempt(history, "b.bin", "two")
    (tmp_path / "a.bin").write_bytes(content("two", 100))
    assert "not of anybody who wanted it" in Checker(tmp_path, history).check_visible()[0]


def test_a_name_given_twice_is_found(tmp_path: Path, history: History) -> None:
    attempt(history, "a.bin", "one", name="a.bin")
    attempt(history, "a.bin", "two", name="a.bin")
    (tmp_path / "a.bin").write_bytes(content("two", 100))
    assert "was given to" in Checker(tmp_path, history).check()[0]


def test_a_file_that_changes_after_it_was_seen_is_found(tmp_path: Path, history: History) -> None:
    attempt(history, "a.bin", "one")
    attempt(history, "a.bin", "two")
    checker = Checker(tmp_path, history)
    (tmp_path / "a.bin").write_bytes(content("one", 100))
    assert checker.check() == []
    (tmp_path / "other").write_bytes(content("two", 100))
    (tmp_path / "other").rename(tmp_path / "a.bin")
    assert "has changed" in checker.check_visible()[0]


def test_a_replaced_file_that_comes_back_is_found(tmp_path: Path, history: History) -> None:
    attempt(history, "a.bin", "one", name="a.bin")
    attempt(history, "a.bin", "two", name="a.bin")
    (tmp_path / "a.bin").write_bytes(content("one", 100))
    assert "went back" in Checker(tmp_path, history, replacing=True).check()[0]
    (tmp_path / "a.bin").write_bytes(content("two", 100))
    assert Checker(tmp_path, history, replacing=True).check() == []
