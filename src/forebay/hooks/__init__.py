"""Callbacks of the engine. `base` is the port."""
