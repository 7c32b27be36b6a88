"""Sandboxes for agents that speak the Model Context Protocol: `bhatti mcp`. Needs the extra `mcp`."""
