"""Breaks real training runs on purpose, and checks that they end in the same bits."""
