"""How well scores of clips tell unusual clips from normal ones."""
