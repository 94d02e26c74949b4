"""Forebay's benchmark: every contender side by side in one run. See docs/performance.md."""
