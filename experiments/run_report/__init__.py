"""Builds the HTML page about a run."""
