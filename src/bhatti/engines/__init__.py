"""What runs sandboxes: one ABC (`base`), one registry, one package per engine."""
