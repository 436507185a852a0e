"""What a flow is conditioned on, and the encoders that turn it into context maps. See `table.py`."""
