"""Reproduces the paper: the numbers, formats and claims of Table I, and the figures."""
