"""TFDS dataset builders, one folder each."""
