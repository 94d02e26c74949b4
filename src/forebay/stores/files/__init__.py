"""Files on a local filesystem."""
