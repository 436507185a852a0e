"""The variants: rows of the paper's ablation (section VII, Table I), one per `--variant`.

`label_everywhere` is not of the paper: its tail sees the label, too, which may name a motion.
"""

from typing import NamedTuple

from flowvid.conditioning.sees import Sees


class Variant(NamedTuple):
    """A row of the ablation. A variant is data: the models read off it what they see."""

    trains: bool  # otherwise ActNorm stays the identity and nothing is updated
    head: Sees
    tail: Sees

    def sees(self, model: str) -> Sees:
        """Returns what "head" or "tail" sees."""
        return self.head if model == "head" else self.tail

    @property
    def uses_labels(self) -> bool:
        """Whether any model sees the label."""
        return self.head.label or self.tail.label


VARIANTS = {
    "init": Variant(trains=False, head=Sees(), tail=Sees()),
    "prev_frame": Variant(trains=True, head=Sees(), tail=Sees(previous=True)),
    "state": Variant(trains=True, head=Sees(), tail=Sees(previous=True, state=True)),
    "state_label": Variant(
        trains=True, head=Sees(label=True), tail=Sees(previous=True, state=True)
    ),
    "label_everywhere": Variant(
        trains=True, head=Sees(label=True), tail=Sees(label=True, previous=True, state=True)
    ),
}
