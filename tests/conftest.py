"""For every test."""

from hypothesis import settings

# How long an example takes is no result: other tests run beside it.
settings.register_profile("forebay", deadline=None)
settings.load_profile("forebay")
