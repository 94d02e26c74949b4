"""The object service of the tests behaves as S3 does where that matters to a store."""

from __future__ import annotations

import pytest

from objects.service import NoAnswer, ObjectService, ServiceError

LARGE = b"x" * 100


@pytest.fixture
def service() -> ObjectService:
    return ObjectService(least_part=100)


def refused(code: str):
    return pytest.raises(ServiceError, match=code)


def test_conditions_hold_at_the_moment_of_the_request(service):
    tag = service.put("a", b"1", if_none_match=True)
    with refused("PreconditionFailed"):
        service.put("a", b"2", if_none_match=True)
    with refused("PreconditionFailed"):
        service.put("a", b"2", if_match="other")
    service.put("a", b"2", if_match=tag)
    with refused("PreconditionFailed"):
        service.get("a", 0, 1, if_match=tag)
    with refused("PreconditionFailed"):
        service.delete("a", if_match=tag)
    assert service.head("a").content == b"2"


def test_keys_are_listed_in_the_order_of_their_bytes(service):
    for key in ("a/b", "a", "a b", "ä", "a!"):
        service.put(key, b"")
    assert service.list("a") == ["a", "a b", "a!", "a/b"]
    assert service.list("a", after="a b", limit=1) == ["a!"]
    assert service.list("b") == []


def test_parts_make_an_object_that_was_not_there_before(service):
    upload = service.create_upload("a", {"forebay": "u1"})
    first = service.upload_part("a", upload, 1, LARGE)
    service.put("piece", LARGE + b"yz")
    second = service.copy_part("a", upload, 2, "piece", 100, 2)
    with refused("NoSuchKey"):
        service.head("a")
    assert service.used == 204
    service.complete("a", upload, [(1, first), (2, second)], if_none_match=True)
    found = service.head("a")
    assert (found.content, found.metadata) == (LARGE + b"yz", {"forebay": "u1"})
    with refused("NoSuchUpload"):
        service.complete("a", upload, [(1, first), (2, second)])


def test_what_cannot_be_completed_changes_nothing(service):
    upload = service.create_upload("a")
    first = service.upload_part("a", upload, 1, b"small")
    second = service.upload_part("a", upload, 2, LARGE)
    with refused("EntityTooSmall"):
        service.complete("a", upload, [(1, first), (2, second)])
    service.upload_part("a", upload, 1, LARGE + b"!")  # the later one counts
    with refused("InvalidPart"):
        service.complete("a", upload, [(1, first), (2, second)])
    with refused("InvalidPartOrder"):
        service.complete("a", upload, [(2, second), (1, first)])
    service.put("a", b"somebody's")
    with refused("PreconditionFailed"):
        service.complete("a", upload, [(2, second)], if_none_match=True)
    assert service.list_uploads()[0][:2] == ("a", upload)
    service.abort("a", upload)
    assert service.list_uploads() == []
    with refused("NoSuchUpload"):
        service.upload_part("a", upload, 3, LARGE)


def test_requests_fail_as_they_were_told_to(service):
    service.fail("put", "refused")
    with refused("SlowDown"):
        service.put("a", b"1")
    service.fail("put", "before", key="a")
    service.put("b", b"1")  # not that key
    with pytest.raises(NoAnswer):
        service.put("a", b"1")
    assert set(service.everything()) == {"b"}
    service.fail("put", "lost")
    with pytest.raises(NoAnswer):
        service.put("a", b"1")
    service.fail("put", "late")
    with pytest.raises(NoAnswer):
        service.put("a", b"2")
    assert service.head("a").content == b"1"
    assert service.land() == 1
    assert service.head("a").content == b"2"
