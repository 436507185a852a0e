"""Moving shapes: a small, generated video data set."""
