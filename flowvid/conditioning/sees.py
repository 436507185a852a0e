"""What a model sees of the video and its label: the columns of the ablation, without JAX."""

from typing import NamedTuple


class Sees(NamedTuple):
    """What one model is conditioned on."""

    label: bool = False  # the video's label
    previous: bool = False  # the frame before the one that is modelled
    state: bool = False  # what the context encoder has carried through all frames before it
