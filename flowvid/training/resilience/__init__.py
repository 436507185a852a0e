"""What a run survives: non-finite steps, signals, a second process in its folder."""
