"""The published ports of sandboxes: a listener of its own, on which nothing of the API is."""
