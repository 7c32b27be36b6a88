"""Containers instead of virtual machines, on a Docker Engine: for development, and where no virtual machine can run."""
