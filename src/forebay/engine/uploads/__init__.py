"""Resumable uploads, the same for every dialect."""
