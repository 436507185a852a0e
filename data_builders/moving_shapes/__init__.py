"""Moving shapes: a small, generated video dataset."""
