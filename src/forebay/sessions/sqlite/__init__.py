"""Upload state in one SQLite file that every process of a machine shares."""
