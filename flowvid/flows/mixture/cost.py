"""What a mixture flow costs: its arithmetic, and the activations that its backward pass keeps."""

from collections.abc import Iterator, Sequence

from flowvid.arrays import CHANNELS
from flowvid.flows.mixture.phases import ORDER
from flowvid.flows.mixture.stage import num_outputs
from flowvid.flows.protocol import Shape


def _stages(
    shape: Shape, context_channels: Sequence[int], anchors: int
) -> Iterator[tuple[int, int]]:
    """Yields the pixels of each stage, and the channels that its network sees."""
    rows, columns, _ = shape
    for context in context_channels:
        rows, columns = rows // 2, columns // 2
        features = 4 * (context - CHANNELS * anchors) + CHANNELS * anchors if context else 0
        for known in range(1, len(ORDER) + 1):
            yield rows * columns, features + CHANNELS * (known * (2 if anchors else 1) + 1)
    yield rows * columns, features or 2


def flop(
    shape: Shape, context_channels: Sequence[int], width: int, components: int, anchors: int
) -> float:
    """Returns the floating-point operations of one image's forward pass, those of the networks."""
    return sum(
        2.0 * pixels * width * (9 * seen + 9 * width + width + num_outputs(components))
        for pixels, seen in _stages(shape, context_channels, anchors)
    )


def activation_size(
    shape: Shape,
    context_channels: Sequence[int],
    width: int,
    components: int,
    anchors: int,
    rebuilt: bool,
) -> int:
    """Returns the numbers that the backward pass of one image keeps.

    It counts the networks' windows and hidden layers, and what the mixtures' masses keep of each
    component and channel. If they are rebuilt, the largest stage alone has them at once.
    """
    kept = [
        pixels * (9 * seen + 9 * width + 6 * width + 12 * CHANNELS * components)
        for pixels, seen in _stages(shape, context_channels, anchors)
    ]
    return max(kept) if rebuilt else sum(kept)
