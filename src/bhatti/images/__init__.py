"""Kernel, initramfs, base image and the drives of a sandbox."""
