"""The HTTP and WebSocket API: authentication, limits, error map, routes per noun."""
