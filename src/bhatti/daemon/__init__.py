"""Settings, start, recovery, stop, exclusivity per sandbox, logs."""
