"""Published files: listed, removed, taken back."""
