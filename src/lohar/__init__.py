"""The guest agent: it runs inside every sandbox, as PID 1 in a virtual machine. Standard library only."""

__version__ = "0.1.0"
