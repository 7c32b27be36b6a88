"""What the host's kernel does for the machines' network: taps, bridges, addresses, one nft table. All of it blocks."""
