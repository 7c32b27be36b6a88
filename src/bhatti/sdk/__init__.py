"""The Python SDK over `operations`."""
