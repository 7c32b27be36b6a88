"""Hot, warm, cold: when a sandbox goes to sleep, and why."""
