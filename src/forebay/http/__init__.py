"""Everything that speaks HTTP: the ASGI routes and the protocol class for uvicorn."""
