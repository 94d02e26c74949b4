"""Files that are compressed at rest."""
