"""Trains runs in processes, and reads what finished runs have left."""
