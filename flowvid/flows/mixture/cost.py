"""What a mixture flow costs: its arithmetic, and the activations that its backward pass keeps."""

from collections.abc import Iterator, Sequence

from flowvid.arrays import CHANNELS
from flowvid.flows.mixture.flow import MixtureFlow
from flowvid.flows.mixture.phases import ORDER
from flowvid.flows.mixture.stage import Stage, StageNetwork, num_outputs
from flowvid.flows.mixture.two_passes import TwoPasses
from flowvid.flows.protocol import Shape


def _stages(
    flow: MixtureFlow, shape: Shape, context_channels: Sequence[int]
) -> Iterator[tuple[StageNetwork, int, int, int]]:
    """Yields the network of each stage, its pixels, and the maps and features that it sees."""
    rows, columns, _ = shape
    anchors = CHANNELS * flow.anchors
    features = [4 * (channels - anchors) if channels else 0 for channels in context_channels]
    for level in range(flow.levels):
        rows, columns = rows // 2, columns // 2
        for known, phase in enumerate(ORDER, start=1):
            maps = anchors + CHANNELS * (known * (2 if flow.anchors else 1) + 1)
            network = flow.network_of(Stage(level, phase))
            yield network, rows * columns, maps, features[level]
    if not isinstance(flow.last, TwoPasses):
        yield flow.network, rows * columns, anchors + 2, features[flow.levels - 1]


def _last_pixels(flow: MixtureFlow, shape: Shape) -> int:
    return (shape[0] >> flow.levels) * (shape[1] >> flow.levels)


def flop(flow: MixtureFlow, shape: Shape, context_channels: Sequence[int]) -> float:
    """Returns the floating-point operations of one image's forward pass, those of the networks."""
    found = sum(
        2.0
        * pixels
        * network.width
        * (9 * maps + features + 10 * network.width + num_outputs(network.components))
        for network, pixels, maps, features in _stages(flow, shape, context_channels)
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
        pixels
        * (9 * maps + features + 15 * network.width + 12 * CHANNELS * (network.components + 1))
        for network, pixels, maps, features in _stages(flow, shape, context_channels)
    ]
    if isinstance(flow.last, TwoPasses):
        kept.append(flow.last.activation_size(_last_pixels(flow, shape)))
    return max(kept) if flow.reversible else sum(kept)
