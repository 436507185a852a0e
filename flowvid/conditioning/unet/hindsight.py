"""What the layers learn from: the rest of the clip shows what was ground, and what moved where.

At the end of a training clip its memory knows the ground. So a pixel of an earlier frame that
differs from it belonged to something that moved, and what is behind that is known, too. The next
frame shows where it has moved. No labels are needed.

The layers also predict their own next frames for a few steps before they are compared, so that
they learn to put right what they have drawn wrong; no gradient goes through these steps.

What moves turns round in few frames, when it bounces, so these frames are compared more often. How
objects move on is a function of few numbers, which cost little once they are found, so it is also
compared at further frames of each clip. Some of these are among the first ones, when it is known
from few frames how things have moved: all of a generated video follows from these.

Some frames of each clip are also looked at as if they were the first. The next ones show how their
objects began to move.

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
from flowvid.conditioning.unet.dynamics import beginnings, object_mean
from flowvid.conditioning.unet.layers import Layers
from flowvid.conditioning.unet.memory import Memory, differs, first_memory, next_memory
from flowvid.conditioning.unet.motion import (
    CoarseDisplacements,
    Maps,
    enlarged,
    motion,
    positions,
    reduced,
    window_sum,
)

Frames = Float[Array, "batch frames height width channels"]

MOST_STEPS = 5  # own frames before layers are compared
_NOISE = 0.012  # standard deviation, about half of a 5-bit bin: own frames have none
_NEAR = 3  # pixels within which an own frame's objects may be off
_LARGEST_ERROR = 5.0  # pixels of motion: farther than that is a mismatch of blocks
_CANDIDATES = 6  # frames of which that is compared at which motion changes most
_FURTHER = 6  # frames of each clip at which motion alone is compared ...
_EARLY, _FIRST_FRAMES = 2, 4  # ... so many of them among the first four
_FIRST = 2  # frames of each clip that are looked at as if they were the first
_WEIGHT = 0.7  # of this loss, beside bits per dimension


class Learner(NamedTuple):
    """The networks as functions of what they see, of all clips once or several times in turn."""

    layers: Callable[[Memory], Layers]
    # The same, of parameters without gradients, which draws own frames. JAX would trace the
    # derivatives of the loop over these, too, before it drops them.
    fixed_layers: Callable[[Memory], Layers]
    change: Callable[[Maps], CoarseDisplacements]  # `LayerNetwork.change`
    log_odds: Callable[[Maps], Array]  # `LayerNetwork.log_odds`


@jax.named_scope("hindsight")
def hindsight_loss(
    learner: Learner,
    keys: Key[Array, " batch"],
    frames: Frames,
    states: Memory,
    factor: int,
) -> tuple[Array, dict[str, Array]]:
    """Returns the layers' loss at two frames drawn from each clip, and parts of it to log.

    One is seen after real frames, the other after some of the layers' own.

    Args:
        learner: the networks.
        keys: one per clip.
        frames: the clips without noise, in [-1/2, 1/2).
        states: the memory after each frame, arrays [B, T, ...].
        factor: of `motion`.
    """
    length = frames.shape[1]
    if length < 2:
        return jnp.zeros(()), {}
    states = lax.stop_gradient(states)
    at_end = jax.tree.map(lambda x: x[:, -1], states)
    turns = _turns(frames, at_end.ground)
    end, after_own_end, own = jax.vmap(_drawn)(keys, turns)
    after_own = _after_own_frames(learner.fixed_layers, keys, _at(states, after_own_end - own), own)
    pairs = [
        (memory, at_end, _at(frames, end), _at(frames, end + 1))
        for memory, end in ((_at(states, end), end), (after_own, after_own_end))
    ]
    memory, final, real, after = jax.tree.map(lambda *both: jnp.concatenate(both), *pairs)
    is_real = _mask(jnp.arange(2 * len(frames)) < len(frames))[:, None, None, None]
    parts = _losses(learner.layers(memory), memory, final, real, after, is_real, length, factor)
    parts |= _losses_of_objects(learner, keys, frames, states, factor)
    return _WEIGHT * sum(parts.values(), jnp.zeros(())), {
        f"layers/{name}": part for name, part in parts.items()
    }


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
    moves = lax.stop_gradient(enlarged(-motion(real, after, moved, factor), factor, real.shape))
    off_moves = jnp.minimum(jnp.abs(layers.moves - moves), _LARGEST_ERROR)
    return {
        "mask": jnp.mean(known * of_mask),
        "memory": 3 * jnp.mean(known * of_memory),
        "ground": 4 * jnp.mean(known * (0.1 + covered) * off_ground),
        # Own frames differ from the real ones in more than the layers can put right.
        "next_frame": 8 * jnp.mean((0.25 + 0.75 * is_real) * off_frame),
        "motion": 2 * jnp.mean(covered * moved * off_moves),
    }


def _losses_of_objects(
    learner: Learner, keys: Key[Array, " batch"], frames: Frames, states: Memory, factor: int
) -> dict[str, Array]:
    """Returns the losses of the change of motion, and of motions of which one frame is known.

    They are compared at further frames, drawn from each clip. Both kinds are looked at together, so
    that the program is compiled sooner.
    """
    last = frames.shape[1] - 1  # which has no next one
    before = jnp.where(jnp.arange(_FURTHER) < _EARLY, min(_FIRST_FRAMES, last), last)

    def drawn(key: Key[Array, ""]) -> Array:
        for_further, for_first = (jax.random.fold_in(key, MOST_STEPS + n) for n in (1, 2))
        further = jax.random.randint(for_further, (_FURTHER,), 0, before)
        return jnp.concatenate([further, _early(for_first, (_FIRST,), last)])

    index = jax.vmap(drawn)(keys)
    real, after = _at_each(frames, index), _at_each(frames, index + 1)
    count = len(frames) * _FURTHER
    memories = jax.tree.map(
        lambda *both: jnp.concatenate(both),
        _at_each(states, index[:, :_FURTHER]),
        next_memory(first_memory(real[count:]), real[count:]),
    )
    layers = lax.stop_gradient(learner.fixed_layers(memories))
    moved = _off(real, jnp.tile(states.ground[:, -1], (_FURTHER + _FIRST, 1, 1, 1)))
    target = -motion(real, after, moved, factor) - layers.expected
    weight = reduced(moved * layers.mask, factor)
    change = learner.change(layers.objects[:count])
    off = jnp.minimum(jnp.abs(change - target[:count]), _LARGEST_ERROR)
    # Nothing has moved before a first frame, so its target is the motion itself.
    beginning = _loss_of_beginning(
        learner.log_odds(layers.objects[count:]), target[count:], weight[count:], factor
    )
    return {"dynamics": 4 * jnp.mean(weight[:count] * off), "beginning": beginning}


def _loss_of_beginning(log_odds: Array, moves: Array, weight: Array, factor: int) -> Array:
    """Returns the loss of the log-odds of motions of objects of which one frame is known."""
    moves = object_mean(moves, weight)
    off = jnp.sum((moves[..., None, :] - beginnings(factor)[None, None, None]) ** 2, axis=-1)
    nearest = jnp.argmin(off, axis=-1)
    loss = optax.softmax_cross_entropy_with_integer_labels(log_odds, nearest)
    return 0.2 * jnp.mean(weight[..., 0] * loss)


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
    candidates = _early(for_frames, (2, _CANDIDATES), len(turns))
    chosen = jnp.argmax(turns[candidates], axis=-1)
    real, last = jnp.take_along_axis(candidates, chosen[:, None], axis=-1)[:, 0]
    own = jax.random.randint(for_steps, (), 1, MOST_STEPS + 1)
    return real, last, jnp.minimum(own, last)


def _early(key: Key[Array, ""], shape: tuple[int, ...], count: int) -> Array:
    """Draws frames among so many, early ones more often."""
    return jnp.floor(count * jax.random.uniform(key, shape) ** 2).astype(jnp.int32)


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


def _at_each(tree: Any, index: Array) -> Any:
    """Returns the entries of arrays [B, T, ...] at indices [B, F], [F B, ...]."""

    def entries(x: Array) -> Array:
        found = jax.vmap(lambda of_clip, i: of_clip[i], out_axes=1)(x, index)
        return found.reshape(-1, *x.shape[2:])

    return jax.tree.map(entries, tree)


def _off(frame: Images, ground: Images) -> Array:
    """Returns 1 where a frame differs from the ground, [B, H, W, 1]."""
    return _mask(differs(frame, ground))


def _mask(condition: Array) -> Array:
    return condition.astype(jnp.float32)
