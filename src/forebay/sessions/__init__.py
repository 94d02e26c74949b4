"""Where upload state and wake-ups live. `base` is the port; every other module is a backend."""
