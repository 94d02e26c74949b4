"""In what order effects happen. Knows no HTTP."""
