"""What the daemon remembers, in SQLite: one writer thread, forward migrations."""
