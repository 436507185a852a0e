"""Training: the loop, train states, steps, checkpoints and reports."""
