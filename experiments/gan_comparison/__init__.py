"""Compares the clips of flows and GANs, which have no likelihood in common."""
