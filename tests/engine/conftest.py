"""Runs tests of the engine on each kind of store (`kinds`), and says which need a real folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kinds import KINDS, StoredFolder

EVERYWHERE = {
    "bodies/test_body.py",
    "bodies/test_encoded_bodies.py",
    "forms/test_receive.py",
    "uploads/test_at_once.py",
    "uploads/test_by_name.py",
    "uploads/test_concatenation.py",
    "uploads/test_create.py",
    "uploads/test_lengths.py",
    "uploads/test_rehash.py",
    "uploads/test_service.py",
}
"""Modules whose tests run on every kind, but for those below."""
EXCEPT: dict[str, tuple[set[str], str]] = {
    "test_what_the_filesystem_cannot_hold_does_not_end_an_upload": (
        {"memory", "objects"},
        "the limit of the process on the size of files",
    ),
    "test_data_that_was_lost_is_never_offered": ({"memory", "objects"}, "cuts a file"),
    "test_it_costs_one_commit_and_is_there_for_whoever_asks": (
        {"memory", "objects"},
        "counts commits of a database",
    ),
    "test_a_moved_body_is_compressed_at_rest_like_any_other": (
        {"memory", "objects"},
        "files alone are compressed at rest",
    ),
    "test_one_that_expired_makes_way": ({"objects"}, "without a byte nothing is at the service"),
    "test_of_many_creations_one_wins": ({"objects"}, "without a byte nothing is at the service"),
    "test_a_part_whose_data_was_lost_fails_the_final": ({"memory", "objects"}, "cuts a file"),
    "test_a_part_that_a_question_completes_is_not_forgotten": (
        {"objects"},
        "holds a part by the lock of its data",
    ),
    "test_what_another_put_in_the_place_meanwhile_is_not_taken_back": (
        {"memory", "objects"},
        "renames a file",
    ),
    "test_room_that_must_stay_free_is_asked_for_as_a_file_grows": (
        {"objects"},
        "a service refuses no bytes while they come",
    ),
    "test_an_application_gets_the_body_decoded": ({"memory", "objects"}, "looks at the folder"),
}
"""Kinds on which a test does not run, and why."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tmp_path" in metafunc.fixturenames:
        metafunc.parametrize("store_kind", kinds_of(metafunc), indirect=True)


def kinds_of(metafunc: pytest.Metafunc) -> list[str]:
    wanted = metafunc.config.getoption("--store") or KINDS
    path = metafunc.definition.path
    if f"{path.parent.name}/{path.name}" not in EVERYWHERE:
        return [kind for kind in ("files",) if kind in wanted]
    without, _ = EXCEPT.get(metafunc.definition.originalname, (set(), ""))
    return [kind for kind in KINDS if kind in wanted and kind not in without]


@pytest.fixture
def store_kind(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "files")


@pytest.fixture
def tmp_path(tmp_path: Path, store_kind: str) -> Any:
    return tmp_path if store_kind == "files" else StoredFolder(str(tmp_path), store_kind)
