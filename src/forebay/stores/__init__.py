"""Where bytes live. `base` is the port; every other module is a backend."""
