"""Bodies of single requests: received, verified, published; or kept for the application."""
