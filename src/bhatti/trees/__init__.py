"""Trees of files: packed into one tar stream, unpacked from one, and what is done to them in place.

Runs on both sides. The command line and the SDK import it; the daemon sends these very files to guests, where the
agent's own Python runs them (`server.errands`), because an image need have neither `tar` nor `mv`. So they need the
standard library alone, and little of that.
"""
