"""The SDK for asyncio: `AsyncSandbox`."""
