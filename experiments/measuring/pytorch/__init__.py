"""Twins of the models in PyTorch, to say how much faster or slower flowvid's training steps are.

They have the same layers and parameters, and are written as a user of PyTorch would write them.
They need the extra `bench`.
"""
