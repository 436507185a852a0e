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

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Float, Int, Key

from flowvid.arrays import Images
from flowvid.conditioning.unet.layers import Layers
from flowvid.conditioning.unet.memory import Memory, differs, next_memory
from flowvid.conditioning.unet.motion import (
    Displacements,
    Maps,
    motion,
    positions,
    window_sum,
)

Frames = Float[Array, "batch frames height width channels"]
Kinds = Int[Array, " batch"]

MOST_STEPS = 5  # own frames before layers are compared
_NOISE = 0.012  # standard deviation, about half of a 5-bit bin: own frames have none
_NEAR = 3  # pixels within which an own frame's objects may be off
_LARGEST_ERROR = 5.0  # pixels of motion: farther than that is a mismatch of blocks
_CANDIDATES = 6  # frames of which that is compared at which motion changes most
_FURTHER = 6  # frames of each clip at which motion alone is compared
_THINNED = 2  # of their rows and columns, one in so many: objects are larger
_WEIGHT = 0.7  # of this loss, beside bits per dimension
_SCALE = 0.05  # pixels that predictions for the right kind of motion are off, about
_MOST = 8.0  # of these, that one frame tells
_OF_PRIOR = 0.02  # weight of the loss of the kinds' probabilities


class Learner(NamedTuple):
    """The networks as functions of what they see, of all clips once or several times in turn.

    The layers also take the kind of motion of each clip.
    """

    layers: Callable[[Memory, Kinds], Layers]
    # The same, of parameters without gradients, which draws own frames. JAX would trace the
    # derivatives of the loop over these, too, before it drops them.
    fixed_layers: Callable[[Memory, Kinds], Layers]
    # `LayerNetwork.change` for each kind of motion, [K, B, H, W, 2].
    changes: Callable[[Maps], Float[Array, "kinds batch height width two"]]
    log_prior: Float[Array, "batch kinds"]  # of the kinds of motion, as the clips' labels say


def hindsight_loss(
    learner: Learner,
    keys: Key[Array, " batch"],
    frames: Frames,
    states: Memory,
    factor: int,
) -> tuple[Array, dict[str, Array], Kinds]:
    """Returns the layers' loss at two frames drawn from each clip, parts to log, and kinds of motion.

    One is seen after real frames, the other after some of the layers' own. The kind of a clip's
    motion is that whose predictions are the nearest at further frames.

    Args:
        learner: the networks.
        keys: one per clip.
        frames: the clips without noise, in [-1/2, 1/2).
        states: the memory after each frame, arrays [B, T, ...].
        factor: of `motion`.
    """
    length = frames.shape[1]
    if length < 2:
        return jnp.zeros(()), {}, jnp.argmax(learner.log_prior, axis=-1)
    states = lax.stop_gradient(states)
    at_end = jax.tree.map(lambda x: x[:, -1], states)
    turns = _turns(frames, at_end.ground)
    of_dynamics, of_prior, kinds = _kinds_and_losses(learner, keys, frames, states, factor)
    end, after_own_end, own = jax.vmap(_drawn)(keys, turns)
    fixed = functools.partial(learner.fixed_layers, kinds=kinds)
    after_own = _after_own_frames(fixed, keys, _at(states, after_own_end - own), own)
    pairs = [
        (memory, at_end, _at(frames, end), _at(frames, end + 1))
        for memory, end in ((_at(states, end), end), (after_own, after_own_end))
    ]
    memory, final, real, after = jax.tree.map(lambda *both: jnp.concatenate(both), *pairs)
    is_real = _mask(jnp.arange(2 * len(frames)) < len(frames))[:, None, None, None]
    layers = learner.layers(memory, jnp.tile(kinds, 2))
    parts = _losses(layers, memory, final, real, after, is_real, length, factor)
    parts |= {"dynamics": of_dynamics, "kinds": of_prior}
    loss = _WEIGHT * sum(parts.values(), jnp.zeros(()))
    return loss, {f"layers/{name}": part for name, part in parts.items()}, kinds


def _losses(
    layers: Layers,
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
    off_frame = jnp.abs(layers.next_frame - after)
    moves = lax.stop_gradient(-motion(real, after, moved, factor))
    off_moves = jnp.minimum(jnp.abs(layers.moves - moves), _LARGEST_ERROR)
    return {
        "mask": jnp.mean(known * of_mask),
        "memory": 3 * jnp.mean(known * of_memory),
        "ground": 4 * jnp.mean(known * (0.1 + covered) * off_ground),
        # Own frames differ from the real ones in more than the layers can put right.
        "next_frame": 8 * jnp.mean((0.25 + 0.75 * is_real) * off_frame),
        "motion": 2 * jnp.mean(covered * moved * off_moves),
    }


def _kinds_and_losses(
    learner: Learner, keys: Key[Array, " batch"], frames: Frames, states: Memory, factor: int
) -> tuple[Array, Array, Kinds]:
    """Returns the losses of changes of motion and of the kinds' prior, and the kinds of the clips.

    Changes of motion are compared at further frames, drawn from each clip, for every kind. How far
    they are off says which kind it is: the step of expectation; the losses are those of the step of
    maximisation.
    """
    last, batch = frames.shape[1] - 1, len(frames)  # the last frame has no next one

    def drawn(key: Key[Array, ""]) -> Array:
        return jax.random.randint(jax.random.fold_in(key, MOST_STEPS + 1), (_FURTHER,), 0, last)

    def at(tree: Any, index: Array) -> Any:
        """Returns the entries of arrays [B, T, ...] at indices [B, F], [F B, ...]."""
        parts = [_at(tree, index[:, number]) for number in range(_FURTHER)]
        return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)

    index = jax.vmap(drawn)(keys)
    real, after = at(frames, index), at(frames, index + 1)
    # What is compared does not depend on the kind.
    any_kind = jnp.zeros(_FURTHER * batch, jnp.int32)
    layers = lax.stop_gradient(learner.fixed_layers(at(states, index), any_kind))
    moved = _off(real, jnp.tile(states.ground[:, -1], (_FURTHER, 1, 1, 1)))
    moves = -motion(real, after, moved, factor)
    target, weight, objects = (
        x[:, ::_THINNED, ::_THINNED]
        for x in (moves - layers.expected, moved * layers.mask, layers.objects)
    )
    off = weight * jnp.minimum(jnp.abs(learner.changes(objects) - target), _LARGEST_ERROR)
    total = jnp.sum(off, axis=(2, 3, 4)) / 2  # [K, F B]
    mean = total / (jnp.sum(weight, axis=(1, 2, 3)) + 1.0)
    told = jnp.minimum(mean / (_SCALE * factor / 2), _MOST).reshape(-1, _FURTHER, batch)
    evidence = jnp.sum(told, axis=1).T
    log_prior = learner.log_prior
    share = lax.stop_gradient(jax.nn.softmax(log_prior - evidence))
    of_kind = jnp.mean(off, axis=(2, 3, 4)).reshape(-1, _FURTHER, batch).mean(axis=1).T
    of_dynamics = 4 * jnp.mean(jnp.sum(share * of_kind, axis=-1))
    of_prior = -_OF_PRIOR * jnp.mean(jnp.sum(share * log_prior, axis=-1))
    return of_dynamics, of_prior, jnp.argmax(share, axis=-1)


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
    layers_of: Callable[[Memory], Layers], keys: Key[Array, " batch"], memory: Memory, steps: Array
) -> Memory:
    """Returns the memory after so many of the layers' own next frames, slightly noisy."""
    shape = memory.frames[0].shape[1:]

    def step(number: Array, memory: Memory) -> Memory:
        folded = jax.vmap(lambda key: jax.random.fold_in(key, number + 1))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(folded)
        own = layers_of(memory).next_frame + _NOISE * noise
        following = next_memory(memory, jnp.clip(own, -0.5, 0.5))
        goes_on = number < steps
        select = lambda new, old: jnp.where(  # noqa: E731
            goes_on.reshape(-1, *(1,) * (new.ndim - 1)), new, old
        )
        return jax.tree.map(select, following, memory)

    return lax.stop_gradient(lax.fori_loop(0, jnp.max(steps), step, memory))


def _at(tree: Any, index: Array) -> Any:
    """Returns the entries [B, ...] of arrays [B, T, ...] at an index per clip."""
    return jax.tree.map(lambda x: jax.vmap(lambda of_clip, i: of_clip[i])(x, index), tree)


def _off(frame: Images, ground: Images) -> Array:
    """Returns 1 where a frame differs from the ground, [B, H, W, 1]."""
    return _mask(differs(frame, ground))


def _mask(condition: Array) -> Array:
    return condition.astype(jnp.float32)
