"""The limits of a form as the settings have them, with changes."""

from __future__ import annotations

import dataclasses
from typing import Any

from forebay.config import Settings
from forebay.engine.forms.request import limits_of
from forebay.protocol.multipart_limits import FormLimits


def form_limits(**changes: Any) -> FormLimits:
    return dataclasses.replace(limits_of(Settings()), **changes)
