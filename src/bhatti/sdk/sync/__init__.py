"""The SDK for threads: `Sandbox`."""
