"""Which kind of motion an object has: the evidence of all frames so far, and what the label says.

Four frames show how an object moves, but not whether it will bounce, or turn round: for that, one
has to know what kind of motion it is. `dynamics` predicts the next motion for each of a few kinds.
How far each of these predictions was off, summed over all frames so far, is the evidence, which
moves along with the object. A label says how likely the kinds are before anything has been seen:
the belief is the product of both, by Bayes' rule. So a label says much in the first frames, and
little later, when the frames have shown the kind.

Nobody says what the kinds are. They are learned as the classes of a mixture model are, by
expectation and maximisation (`hindsight`).

Dimensions: B batch, H height, W width, h = H / 2, w = W / 2, K kinds, F numbers of an object.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from flowvid.arrays import CHANNELS, Images
from flowvid.conditioning.unet.dynamics import CELL, in_cells, object_mean
from flowvid.conditioning.unet.motion import Displacements, Mask, positions, reduced, sampled_at
from flowvid.flows.scale_and_shift import OF_VECTOR

_SCALE = 0.05  # pixels that predictions of the right kind are off, about; per `factor` / 2
_MOST = 8.0  # of these, that one frame tells
_KEPT = 0.97  # of the evidence per frame: things may change how they move
_FASTER = 4.0  # than other parameters, Adam changes log-odds
_KNOWN = 4  # frames, without which predictions are too poor to tell anything

Evidence = Float[Array, "batch half_height half_width kinds"]
LogPrior = Float[Array, "batch kinds"]


class Track(NamedTuple):
    """What has been found of the last frame, and is carried to the next one."""

    mask: Mask  # of what moves
    ground: Images  # behind it
    # in pixels: motion into the last frame, and that of the same things into the two before it
    moved: Float[Array, "batch height width six"]
    objects: Float[Array, "batch half_height half_width numbers"]  # `dynamics.known_of_objects`
    # of the motion, for each kind, in pixels
    changes: Float[Array, "batch half_height half_width two_kinds"]
    evidence: Float[Array, "batch half_height half_width kinds"]  # against each kind, in nats


def first_track(frame: Images, kinds: int, numbers: int) -> Track:
    """Returns the track before any frame of a video of this shape is seen."""
    batch, height, width, _ = frame.shape

    def nothing(channels: int, factor: int = 1) -> Array:
        return jnp.zeros((batch, -(-height // factor), -(-width // factor), channels), frame.dtype)

    return Track(
        nothing(1),
        nothing(CHANNELS),
        nothing(6),
        nothing(numbers, CELL),
        nothing(2 * kinds, CELL),
        nothing(kinds, CELL),
    )


class Prior(nn.Module):
    """What a label says of the kinds of motion; without a label, all are equally likely."""

    kinds: int

    @nn.compact
    def __call__(self, vector: Float[Array, "batch vector"]) -> LogPrior:
        """Returns log p(kind | label), [B, K], of a label's vector."""
        # Labels begin with different kinds, so that these become different from each other.
        spread = nn.initializers.variance_scaling(6.0 / _FASTER**2, "fan_in", "normal")
        logits: Array = nn.Dense(self.kinds, kernel_init=spread, name=OF_VECTOR)(vector)
        return nn.log_softmax(_FASTER * logits)


def thin(x: Any) -> Any:
    """Returns the first pixel of each cell of maps [B, H, W, C]."""
    return x[:, ::CELL, ::CELL]


def expected(moved: Float[Array, "batch height width six"]) -> Displacements:
    """Returns the motion into the next frame at a constant acceleration."""
    return moved[..., :2] + (moved[..., :2] - moved[..., 2:4]) / 2


def next_evidence(
    before: Track, moved: Displacements, mask: Mask, seen: Array, factor: int
) -> Evidence:
    """Returns the evidence once a frame is seen.

    Args:
        before: of the frame before.
        moved: motion into this frame.
        mask: of what moves in it.
        seen: number of frames that have been seen, [B, 1, 1, 1].
        factor: of `motion.motion`.
    """
    moved, mask = in_cells(moved, mask), reduced(mask, CELL)
    kinds = before.evidence.shape[-1]
    of_cells = in_cells(expected(before.moved), before.mask)
    predicted = jnp.tile(of_cells, kinds) + before.changes
    at = positions(*moved.shape[1:3]) - moved / CELL
    carried = sampled_at(jnp.concatenate([predicted, before.evidence], axis=-1), at)
    predicted, evidence = jnp.split(carried, [2 * kinds], axis=-1)
    off = jnp.sqrt(squares_by_kind(predicted - jnp.tile(moved, kinds)) + 1e-6)
    told = jnp.minimum(off / (_SCALE * factor / 2), _MOST) * (seen >= _KNOWN)
    evidence = object_mean(_KEPT * evidence + told, mask, factor)
    return evidence - jnp.min(evidence, axis=-1, keepdims=True)


def squares_by_kind(x: Float[Array, "batch half_height half_width two_kinds"]) -> Evidence:
    """Returns squared lengths of displacements that lie side by side, one per kind."""
    return jnp.sum(x.reshape(*x.shape[:-1], -1, 2) ** 2, axis=-1)


def believed(
    track: Track, log_prior: LogPrior | None
) -> Float[Array, "batch half_height half_width two"]:
    """Returns the mean of the changes of motion over the kinds, [B, h, w, 2]."""
    logits = -track.evidence
    if log_prior is not None:
        logits += log_prior[:, None, None]
    belief = jax.nn.softmax(logits, axis=-1)
    changes = track.changes.reshape(*track.changes.shape[:-1], -1, 2)
    return jnp.sum(belief[..., None] * changes, axis=-2)
