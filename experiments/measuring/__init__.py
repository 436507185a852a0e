"""Measures time, memory and arithmetic, each in a process of its own where that matters."""
