"""Callbacks about published files, called until they return."""
