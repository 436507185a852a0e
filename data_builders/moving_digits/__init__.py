"""Moving digits: a generated video dataset of real handwritten digits."""
