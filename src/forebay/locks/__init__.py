"""Locks on jobs that one process at a time does. `base` is the port."""
