"""Bodies of single requests: received, verified, published, or handed to the application."""
