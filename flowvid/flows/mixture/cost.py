"""What a mixture flow costs: its arithmetic, and the activations that its backward pass keeps."""

from collections.abc import Iterator, Sequence

from flowvid.arrays import CHANNELS
from flowvid.flows.mixture.flow import MixtureFlow
from flowvid.flows.mixture.phases import ORDER
from flowvid.flows.mixture.stage import Stage, StageNetwork, num_outputs
from flowvid.flows.mixture.two_passes import TwoPasses
from flowvid.flows.protocol import Shape


def _features(flow: MixtureFlow, context: int) -> int:
    """Returns how many features of a level's context its stages see."""
    return 4 * (context - CHANNELS * flow.anchors) + CHANNELS * flow.anchors if context else 0


def _stages(
    flow: MixtureFlow, shape: Shape, context_channels: Sequence[int]
) -> Iterator[tuple[StageNetwork, int, int]]:
    """Yields the network of each stage, its pixels, and the channels that the network sees."""
    rows, columns, _ = shape
    for level in range(flow.levels):
        rows, columns = rows // 2, columns // 2
        for known, phase in enumerate(ORDER, start=1):
            seen = CHANNELS * (known * (2 if flow.anchors else 1) + 1)
            network = flow.network_of(Stage(level, phase))
            yield network, rows * columns, _features(flow, context_channels[level]) + seen
    if not isinstance(flow.last, TwoPasses):
        seen = _features(flow, context_channels[flow.levels - 1]) or 2
        yield flow.network, rows * columns, seen


def _last_pixels(flow: MixtureFlow, shape: Shape) -> int:
    return (shape[0] >> flow.levels) * (shape[1] >> flow.levels)


def flop(flow: MixtureFlow, shape: Shape, context_channels: Sequence[int]) -> float:
    """Returns the floating-point operations of one image's forward pass, those of the networks."""
    found = sum(
        2.0
        * pixels
        * network.width
        * (9 * seen + 10 * network.width + num_outputs(network.components))
        for network, pixels, seen in _stages(flow, shape, context_channels)
    )
    if isinstance(flow.last, TwoPasses):
        found += flow.last.flop(_last_pixels(flow, shape), context_channels[0])
    return found


def activation_size(flow: MixtureFlow, shape: Shape, context_channels: Sequence[int]) -> int:
    """Returns the numbers that the backward pass of one image keeps.

    It counts the networks' windows and hidden layers, and what the mixtures' masses keep of each
    component and channel. If they are rebuilt, the largest stage alone has them at once.
    """
    kept = [
        pixels * (9 * seen + 15 * network.width + 12 * CHANNELS * (network.components + 1))
        for network, pixels, seen in _stages(flow, shape, context_channels)
    ]
    if isinstance(flow.last, TwoPasses):
        kept.append(flow.last.activation_size(_last_pixels(flow, shape)))
    return max(kept) if flow.reversible else sum(kept)
