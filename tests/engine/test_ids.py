"""Ids of uploads can be typed wherever an id is asked for."""

from __future__ import annotations

import pytest

from forebay.engine import ids
from forebay.protocol.upload_ids import validate_upload_id


def test_an_id_is_never_taken_for_an_option_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: of 64 uploads one could not be shown or cancelled on the command line."""
    drawn = iter(
        ["-Ixxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "--help-xxxxxxxxxxxxxxxxxxxxxxxxx", "I" * 32]
    )
    monkeypatch.setattr(ids.secrets, "token_urlsafe", lambda _: next(drawn))
    assert validate_upload_id(ids.new_id()) == "I" * 32
