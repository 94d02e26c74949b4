"""Which contracts each session backend keeps. What is not joined it does not offer."""

from __future__ import annotations

import pytest

from . import test_leased, test_memory
from .contract import DurableContract, SessionsContract
from .leases import LeasesContract, NamesContract
from .sqlite import test_sessions

JOINED = {
    test_memory.TestMemory: {SessionsContract},
    test_sessions.TestRelaxed: {SessionsContract, DurableContract},
    test_sessions.TestStrict: {SessionsContract, DurableContract},
    test_leased.TestLeased: {SessionsContract, LeasesContract, NamesContract},
}


@pytest.mark.parametrize("backend", JOINED, ids=lambda backend: backend.__name__)
def test_each_backend_joins_what_it_offers(backend: type) -> None:
    every = (SessionsContract, DurableContract, LeasesContract, NamesContract)
    assert {contract for contract in every if issubclass(backend, contract)} == JOINED[backend]
