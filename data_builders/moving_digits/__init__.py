"""Moving digits: real handwritten digits on the move."""
