"""Every API operation, declared once; routes, SDKs and OpenAPI derive from this table."""
