"""Typed values of the domain and the life-cycle table. Imports nothing of ours but `errors`."""
