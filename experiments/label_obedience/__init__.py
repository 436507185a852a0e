"""Whether samples show the label that they were asked for."""
