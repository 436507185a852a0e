"""How runs survive non-finite steps, signals, and a second process in their folder."""
