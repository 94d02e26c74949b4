"""Who is told. `base` is the port."""
