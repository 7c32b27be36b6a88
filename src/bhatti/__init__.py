"""bhatti: a Linux machine of its own for every AI coding agent."""
