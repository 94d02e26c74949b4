"""What keeps a served folder in order: sweeps, the clock, and what an operator asks."""
