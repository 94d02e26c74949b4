"""Options of a route are checked where they are written; errors say why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebay import GB, ConfigError, Forebay
from forebay.library.options import make_form_options, make_options


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: make_options(7), "7 is not a destination"),
        (lambda: make_options(Path("videos")), "is not a destination"),
        (lambda: make_options("v/", types=["video"]), "'video' is not a media type"),
        (lambda: make_options("v/", conflict="overwrite"), "auto, rename, refuse, replace"),
        (lambda: make_options("v/", max_size="much"), "max_size cannot be 'much'"),
        (lambda: make_options("v/", max_size=0), "max_size cannot be 0"),
        (lambda: make_options("v/", max_size=2.5), "not a whole number"),
        (lambda: make_options("v/", threshold=-1), "threshold cannot be -1"),
        (lambda: make_form_options(["clip"]), "files cannot be ['clip']"),
        (lambda: make_form_options({"clip": 7}), "7 is not a destination"),
        (lambda: make_form_options({"clip": ["a/", "b/"]}), "a list that holds it"),
        (lambda: make_form_options({"a": "a/"}, fields={"a": str}), "as a file and as text"),
        (lambda: make_form_options("v/", fields=int), "Give a pydantic model, or types"),
        (lambda: make_form_options("v/", fields={"a": 3}), "fields cannot be {'a'"),
        (lambda: make_form_options("v/", max_size=0), "max_size cannot be 0"),
    ],
)
def test_impossible_options_are_refused_where_they_are_written(
    make: Callable[[], Any], reason: str
):
    with pytest.raises(ConfigError) as raised:
        make()
    assert reason in raised.value.message


def test_sizes_may_be_text():
    options = make_options("v/", max_size="2GB", threshold="64KiB")
    assert (options.max_size, options.threshold) == (2 * GB, 65536)
    assert make_form_options("v/", max_size="2GB").max_size == 2 * GB


def test_what_cannot_be_mounted_is_refused_where_it_is_written(tmp_path: Path):
    uploads = Forebay(tmp_path)
    try:
        with pytest.raises(ConfigError, match="cannot be mounted at '/files'"):
            uploads.in_front_of(None, {"files": "data/"})
    finally:
        uploads.close()


def test_settings_that_are_lists_may_be_written_as_lists(tmp_path: Path):
    uploads = Forebay(tmp_path, accept_types=["video/*"], allow_origin=["https://a.example"])
    try:
        assert uploads.settings.accept_types == ("video/*",)
        assert uploads.settings.allow_origin == ("https://a.example",)
    finally:
        uploads.close()


def test_the_old_names_of_options_work_for_this_release(tmp_path: Path):
    uploads = Forebay(tmp_path)
    try:
        assert uploads.wish("v/", types=["video/*"]) == uploads.options("v/", types=["video/*"])
        assert uploads.form_wish({"clip": "v/"}) == uploads.form_options({"clip": "v/"})
    finally:
        uploads.close()
