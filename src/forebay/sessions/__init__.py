"""Backends for the state of uploads. `base` is the port; `records` is what backends share."""
