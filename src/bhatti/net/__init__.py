"""Bridge, taps, addresses and the one firewall table of our own."""
