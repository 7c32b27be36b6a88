"""What outlives the daemon: SQLite behind one writer thread, one module per group of tables."""
