"""Opens and watches upload state, sweeps, and does what an operator asks for."""
