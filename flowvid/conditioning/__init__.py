"""What flows are conditioned on, and the encoders that make context maps of it: `table.py`."""
