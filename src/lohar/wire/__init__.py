"""The protocol between host and guest, sans-IO; both ends import it."""
