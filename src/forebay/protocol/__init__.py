"""What the wire means: pure functions and tables, no socket, file, clock or random source."""
