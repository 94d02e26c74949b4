"""Bytes on their way, and nothing else: the pump and what it goes through. Knows no upload."""
