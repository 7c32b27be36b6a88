"""The host end of the wire: client and transports."""
