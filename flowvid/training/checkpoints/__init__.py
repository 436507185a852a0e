"""Orbax checkpoints of a run: their contents, saving and reading."""
