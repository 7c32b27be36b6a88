"""Every operation of the API, declared once: what server routing, clients and documents are derived from."""
