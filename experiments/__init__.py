"""Commands that reproduce the paper, compare models, and measure and test them; see --help."""
