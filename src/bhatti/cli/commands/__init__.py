"""One module per noun; loaded only when its command is called."""
