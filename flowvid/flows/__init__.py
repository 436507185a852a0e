"""Flows: exact-likelihood models of images, and the parts that they are made of. See `table.py`."""
