"""Which type a name stands for, and what a browser may be shown."""

from __future__ import annotations

import pytest

from forebay.config import Settings
from forebay.errors import ConfigError
from forebay.media_types import is_shown, media_type_of

SHOWN = Settings().inline_types


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("a.txt", "text/plain", True),
        ("folder.txt/A.PNG", "image/png", True),
        ("a.mp4", "video/mp4", True),
        ("a.wav", "audio/wav", True),
        ("a.pdf", "application/pdf", True),
        ("a.html", "text/html", False),
        ("a.HTM", "text/html", False),
        ("a.svg", "image/svg+xml", False),
        ("a.xml", "application/xml", False),
        ("a.xhtml", "application/xhtml+xml", False),
        ("a.js", "text/javascript", False),
        ("a.csv", "text/csv", False),
        ("a.tar.gz", "application/gzip", False),
        ("png", "application/octet-stream", False),
        (".png", "application/octet-stream", False),
        ("a.", "application/octet-stream", False),
        ("a.unheard-of", "application/octet-stream", False),
        ("a.png\r\nx", "application/octet-stream", False),
    ],
)
def test_a_name_tells_its_type_and_what_could_run_scripts_is_not_shown(name, kind, shown):
    assert media_type_of(name) == kind
    assert is_shown(kind, SHOWN) is shown


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.xhtml", "a.js", "a.eml"])
def test_no_pattern_shows_what_is_active(name):
    assert not is_shown(media_type_of(name), ("*/*", "text/*", "image/*", "application/*"))


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xml"])
def test_naming_an_active_type_is_refused_with_the_reason(kind):
    with pytest.raises(ConfigError, match="could run scripts"):
        Settings(inline_types=(kind,))
