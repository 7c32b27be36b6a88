"""The QEMU engine: KVM where it works, software emulation where it does not."""
