"""What the layers learn from: the rest of the clip shows what was ground, and what moved where.

At the end of a training clip its memory knows the ground. So a pixel of an earlier frame that
differs from it belonged to something that moved, and what is behind that is known, too. The next
frame shows where it has moved. No labels are needed.

The layers also predict their own next frames for a few steps before they are compared, so that
they learn to put right what they have drawn wrong; no gradient goes through these steps.

What moves turns round in few frames, when it bounces, so these frames are compared more often. How
objects move on is a function of few numbers, which cost little once they are found, so it is also
compared at further frames of each clip, any of them.

Dimensions: B batch, T frames of a clip, H height, W width.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Float, Key

from flowvid.arrays import Images
from flowvid.conditioning.unet.kinds import LogPrior, Track, expected, thin
from flowvid.conditioning.unet.layers import Layers, Next, next_frame
from flowvid.conditioning.unet.memory import Memory, differs
from flowvid.conditioning.unet.motion import (
    Displacements,
    Maps,
    motion,
    positions,
    window_sum,
)

Frames = Float[Array, "batch frames height width channels"]

MOST_STEPS = 5  # own frames before layers are compared
_NOISE = 0.012  # standard deviation, about half of a 5-bit bin: own frames have none
_NEAR = 3  # pixels within which an own frame's objects may be off
_LARGEST_ERROR = 5.0  # pixels of motion: farther than that is a mismatch of blocks
_CANDIDATES = 6  # frames of which that is compared at which motion changes most
_FURTHER = 6  # frames of each clip at which motion alone is compared
_WEIGHT = 0.7  # of this loss, beside bits per dimension


class State(NamedTuple):
    """What is carried through time."""

    memory: Memory
    before: Track  # of the frame before the last one
    track: Track  # of the last one


class Learner(NamedTuple):
    """The networks as functions, with their parameters, of what they see."""

    layers: Callable[[Memory, Track], Layers]
    change: Callable[[Maps], Array]  # `LayerNetwork.change`
    # The next state, of parameters without gradients, which draws own frames. JAX would trace the
    # derivatives of the loop over these, too, before it drops them.
    next_state: Callable[[State, Images], State]
    log_prior: LogPrior | None  # of the kinds of motion of each clip


def hindsight_loss(
    learner: Learner,
    keys: Key[Array, " batch"],
    frames: Frames,
    states: State,
    factor: int,
) -> tuple[Array, dict[str, Array]]:
    """Returns the layers' loss at two frames drawn from each clip, and parts of it to log.

    One is seen after real frames, the other after some of the layers' own.

    Args:
        learner: the networks.
        keys: one per clip.
        frames: the clips without noise, in [-1/2, 1/2).
        states: the state after each frame, arrays [B, T, ...].
        factor: of `motion`.
    """
    length = frames.shape[1]
    if length < 2:
        return jnp.zeros(()), {}
    states = lax.stop_gradient(states)
    at_end = jax.tree.map(lambda x: x[:, -1], states)
    ground = at_end.memory.ground
    turns = _turns(frames, ground)
    log_prior = None if learner.log_prior is None else lax.stop_gradient(learner.log_prior)
    kinds = _kinds_of_clips(frames[:, -1], at_end, log_prior)
    end, after_own_end, own = jax.vmap(_drawn)(keys, turns)
    after_own = _after_own_frames(
        learner.next_state, log_prior, keys, _at(states, after_own_end - own), own
    )
    pairs = [
        (state, at_end.memory, _at(frames, end), _at(frames, end + 1), log_prior, kinds)
        for state, end in ((_at(states, end), end), (after_own, after_own_end))
    ]
    state, final, real, after, prior, kinds_of_both = jax.tree.map(
        lambda *both: jnp.concatenate(both), *pairs
    )
    is_real = _mask(jnp.arange(2 * len(frames)) < len(frames))[:, None, None, None]
    layers = learner.layers(state.memory, state.before)
    follows = next_frame(state.memory.frames[0], layers.track, prior)
    parts = _losses(
        layers, follows, kinds_of_both, state.memory, final, real, after, is_real, length, factor
    )
    parts["dynamics"] = _loss_of_dynamics(learner, kinds, keys, frames, states, factor)
    if learner.log_prior is not None:
        parts["kinds"] = -0.05 * jnp.mean(jnp.sum(kinds * learner.log_prior, axis=-1))
    return _WEIGHT * sum(parts.values(), jnp.zeros(())), {
        f"layers/{name}": part for name, part in parts.items()
    }


def _kinds_of_clips(
    last: Images, at_end: State, log_prior: LogPrior | None
) -> Float[Array, "batch kinds"]:
    """Returns the probability of each kind of motion once the whole clip has been seen."""
    weight = thin(_off(last, at_end.memory.ground) * at_end.track.mask) + 1e-6
    evidence = jnp.sum(weight * at_end.track.evidence, axis=(1, 2)) / jnp.sum(weight, axis=(1, 2))
    return jax.nn.softmax(-evidence if log_prior is None else log_prior - evidence)


def _losses(
    layers: Layers,
    follows: Next,
    kinds: Float[Array, "batch kinds"],
    memory: Memory,
    final: Memory,
    real: Images,
    after: Images,
    is_real: Array,
    length: int,
    factor: int,
) -> dict[str, Array]:
    """Returns the parts of the loss.

    Args:
        layers: what the network has found.
        follows: the next frame that follows from it.
        kinds: how likely each kind of motion is.
        memory: what it has seen.
        final: the memory at the end of the clip, of `length` frames.
        real: the last frame that was seen, as it really was.
        after: the real frame after it.
        is_real: 1 where all frames that were seen are real.
        length: T.
        factor: of `motion`.
    """
    known = _mask(final.ground_count >= length / 6)
    moved = _off(real, final.ground)
    near = _mask(window_sum(moved, _NEAR) > 0.5)
    covered = _off(memory.frames[0], final.ground) * near

    of_mask = optax.sigmoid_binary_cross_entropy(layers.mask_logit, covered)
    wrong = _off(memory.ground, final.ground)
    of_memory = optax.sigmoid_binary_cross_entropy(layers.wrong_logit, wrong)
    of_memory *= covered * (1 - layers.is_ground)
    off_ground = jnp.mean(jnp.abs(layers.filled - final.ground), axis=-1, keepdims=True)
    off_frame = jnp.abs(follows.frame - after)
    track = layers.track
    changes = thin(-motion(real, after, moved, factor) - expected(track.moved))
    of_motion = _of_changes(track.changes, changes, kinds)
    return {
        "mask": jnp.mean(known * of_mask),
        "memory": 3 * jnp.mean(known * of_memory),
        "ground": 4 * jnp.mean(known * (0.1 + covered) * off_ground),
        # Own frames differ from the real ones in more than the layers can put right.
        "next_frame": 8 * jnp.mean((0.25 + 0.75 * is_real) * off_frame),
        "motion": 2 * jnp.mean(thin(covered * moved) * of_motion),
    }


def _of_changes(
    changes: Float[Array, "batch height width two_kinds"],
    target: Displacements,
    kinds: Float[Array, "batch kinds"],
) -> Array:
    """Returns how far changes of motion are off, the mean over the kinds, [B, H, W, 1]."""
    target = lax.stop_gradient(jnp.tile(target, kinds.shape[-1]))
    off = jnp.minimum(jnp.abs(changes - target), _LARGEST_ERROR)
    off = jnp.mean(off.reshape(*off.shape[:-1], -1, 2), axis=-1)
    return jnp.sum(off * kinds[:, None, None], axis=-1, keepdims=True)


def _loss_of_dynamics(
    learner: Learner,
    kinds: Float[Array, "batch kinds"],
    keys: Key[Array, " batch"],
    frames: Frames,
    states: State,
    factor: int,
) -> Array:
    """Returns the loss of the changes of motion at further frames, drawn from each clip."""
    last = frames.shape[1] - 1  # which has no next one

    def drawn(key: Key[Array, ""]) -> Array:
        return jax.random.randint(jax.random.fold_in(key, MOST_STEPS + 1), (_FURTHER,), 0, last)

    def at(tree: Any, index: Array) -> Any:
        """Returns the entries of arrays [B, T, ...] at indices [B, F], [F B, ...]."""
        parts = [_at(tree, index[:, number]) for number in range(_FURTHER)]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    index = jax.vmap(drawn)(keys)
    real, after, track = at(frames, index), at(frames, index + 1), at(states.track, index)
    moved = _off(real, jnp.tile(states.memory.ground[:, -1], (_FURTHER, 1, 1, 1)))
    target = thin(-motion(real, after, moved, factor) - expected(track.moved))
    changes = learner.change(track.objects)
    changes = changes.reshape(*changes.shape[:-2], -1)
    off = _of_changes(changes, target, jnp.tile(kinds, (_FURTHER, 1)))
    return 4 * jnp.mean(thin(moved * track.mask) * off)


def _turns(frames: Frames, ground: Images) -> Float[Array, "batch frames_to_compare"]:
    """Returns how much the motion changes at each frame that another one follows, in pixels.

    The motion is that of the centre of what differs from the ground.
    """
    height, width = frames.shape[2:4]
    off = _mask(jax.vmap(differs, in_axes=(1, None), out_axes=1)(frames, ground))
    area = jnp.maximum(jnp.sum(off, axis=(2, 3)), 1.0)
    centre = jnp.sum(off * positions(height, width)[:, None], axis=(2, 3)) / area
    change = centre[:, 2:] - 2 * centre[:, 1:-1] + centre[:, :-2]
    return jnp.pad(jnp.max(jnp.abs(change), axis=-1), ((0, 0), (1, 0)))  # nothing before the first


def _drawn(
    key: Key[Array, ""], turns: Float[Array, " frames_to_compare"]
) -> tuple[Array, Array, Array]:
    """Draws a last real frame and a last own one, and how many own frames that one ends.

    Of a few candidates, early frames more often, the one is taken at which the motion changes most.
    """
    for_frames, for_steps = jax.random.split(jax.random.fold_in(key, 0))
    at = jax.random.uniform(for_frames, (2, _CANDIDATES))
    candidates = jnp.floor(len(turns) * at**2).astype(jnp.int32)
    chosen = jnp.argmax(turns[candidates], axis=-1)
    real, last = jnp.take_along_axis(candidates, chosen[:, None], axis=-1)[:, 0]
    own = jax.random.randint(for_steps, (), 1, MOST_STEPS + 1)
    return real, last, jnp.minimum(own, last)


def _after_own_frames(
    next_state: Callable[[State, Images], State],
    log_prior: LogPrior | None,
    keys: Key[Array, " batch"],
    state: State,
    steps: Array,
) -> State:
    """Returns the state after so many of the layers' own next frames, slightly noisy."""
    shape = state.memory.mean.shape[1:]

    def step(number: Array, state: State) -> State:
        folded = jax.vmap(lambda key: jax.random.fold_in(key, number + 1))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(folded)
        own = next_frame(state.memory.frames[0], state.track, log_prior).frame + _NOISE * noise
        following = next_state(state, jnp.clip(own, -0.5, 0.5))
        goes_on = number < steps
        select = lambda new, old: jnp.where(  # noqa: E731
            goes_on.reshape(-1, *(1,) * (new.ndim - 1)), new, old
        )
        return jax.tree.map(select, following, state)

    return lax.stop_gradient(lax.fori_loop(0, jnp.max(steps), step, state))


def _at(tree: Any, index: Array) -> Any:
    """Returns the entries [B, ...] of arrays [B, T, ...] at an index per clip."""
    return jax.tree.map(lambda x: jax.vmap(lambda of_clip, i: of_clip[i])(x, index), tree)


def _off(frame: Images, ground: Images) -> Array:
    """Returns 1 where a frame differs from the ground, [B, H, W, 1]."""
    return _mask(differs(frame, ground))


def _mask(condition: Array) -> Array:
    return condition.astype(jnp.float32)
