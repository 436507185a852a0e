"""What a Glow costs: its arithmetic, and the activations that its backward pass keeps."""

from collections.abc import Sequence

from flowvid.flows.protocol import Shape


def flop(
    shape: Shape, context_channels: Sequence[int], steps: int, width: int, coupling: str
) -> float:
    """Returns the floating-point operations of one image's forward pass.

    The coupling networks are counted alone, since all else is small beside them.
    """
    total, (rows, columns, channels) = 0.0, shape
    for context in context_channels:
        rows, columns, channels = rows // 2, columns // 2, channels * 4
        half = channels // 2
        out = half * (2 if coupling == "affine" else 1)
        weights = 9 * (half + 4 * context) * width + width**2 + 9 * width * out
        total += steps * rows * columns * 2 * weights
        channels = half
    return total


def activation_size(
    shape: Shape, context_channels: Sequence[int], kept_steps: int, width: int
) -> int:
    """Returns the numbers that the backward pass of one image keeps.

    It counts what the coupling networks see and keep. `kept_steps` is the number of steps per level
    whose activations exist together: one where they are rebuilt.
    """
    numbers, (rows, columns, channels) = 0, shape
    for context in context_channels:
        rows, columns, channels = rows // 2, columns // 2, channels * 4
        window = 9 * (channels // 2 + 4 * context)
        numbers += rows * columns * (kept_steps * (2 * width + 2 * channels) + window)
        channels //= 2
    return numbers
