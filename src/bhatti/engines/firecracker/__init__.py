"""The Firecracker engine: microVMs in production, on Linux with KVM."""
