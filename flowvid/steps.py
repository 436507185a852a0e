"""Training and evaluation steps of head and tail, and the only `pmap` of the project.

Bodies are pure functions of one device's share of a batch. `on_devices` runs a body on all local
devices; inside it, gradients and metrics are averaged over every device of every host.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jaxtyping import Float, Int, Key, PyTree, UInt8, UInt32

from flowvid import chunks, head, likelihood, streams, tail
from flowvid.bijectors.base import Params
from flowvid.config import Config
from flowvid.glow import Density
from flowvid.likelihood import Metric
from flowvid.state import ModelState, next_average

DEVICES = "devices"


class Batch(NamedTuple):
    """Clips as the steps take them; `example`, the global counter of examples, keys the noise."""

    video: UInt8[Array, "batch frames height width channels"]
    label: Int[Array, " batch"]
    example: UInt32[Array, " batch"]


def on_devices(body: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
    """`body` compiled for all local devices, its arguments split on their leading axis."""
    return jax.pmap(body, axis_name=DEVICES, donate_argnums=donate)


def replicate(tree: PyTree) -> PyTree:
    """Copies a tree to all local devices, on a new leading axis."""
    count = jax.local_device_count()
    return on_devices(lambda x: x)(
        jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree)
    )


def unreplicate(tree: PyTree) -> PyTree:
    """This process's first copy of a replicated tree, on the host, safe from donation."""
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data)[0], tree)


def dispatch_max(value: int) -> Array:
    """The largest of all processes' values, replicated; returns without waiting for the others.

    Every process has to ask for it; read it with `unreplicate`.
    """
    return _max()(np.full(jax.local_device_count(), value, np.int32))


@functools.cache
def _max() -> Any:
    return on_devices(lambda x: lax.pmax(x, DEVICES))


def gather(tree: PyTree) -> PyTree:
    """Inside a body: arrays of all devices of all hosts, joined on the leading axis."""
    return jax.tree.map(lambda x: lax.all_gather(x, DEVICES, tiled=True), tree)


def mean_over_devices(tree: PyTree) -> PyTree:
    """Inside a body: every array's mean over all devices of all hosts."""
    # XLA's CPU compiler copies every gradient even where there is nobody to add to.
    return tree if lax.axis_size(DEVICES) == 1 else lax.pmean(tree, DEVICES)


def shard(tree: PyTree) -> PyTree:
    """Splits the leading axis of every array over the local devices.

    Raises:
        ValueError: if it does not divide by their number.
    """
    count = jax.local_device_count()

    def split(x: Any) -> Any:
        if x.shape[0] % count:
            raise ValueError(
                f"A batch of {x.shape[0]} videos does not divide over {count} devices: make "
                f"--batch_size a multiple of {count}."
            )
        return x.reshape(count, x.shape[0] // count, *x.shape[1:])

    return jax.tree.map(split, tree)


def head_frames(
    keys: Key[Array, " batch"],
    video: UInt8[Array, "batch frames height width channels"],
    metric: Metric,
) -> Float[Array, "batch height width channels"]:
    """Dequantised first frames."""
    return likelihood.dequantize(keys, video[:, 0], metric)


class TailFrames(NamedTuple):
    """What the tail models, and what it sees: the arguments of `tail.log_prob`."""

    x: Float[Array, "batch modelled height width channels"]
    clean: Float[Array, "batch earlier height width channels"]
    picked: Int[Array, "batch modelled"] | None


def tail_frames(
    keys: Key[Array, " batch"],
    video: UInt8[Array, "batch frames height width channels"],
    metric: Metric,
    drawn: int | None = None,
) -> TailFrames:
    """Dequantised frames after the first: all of them, or `drawn` of each clip, without repeats."""
    later: Any = video[:, 1:]
    picked = None
    if drawn is not None:
        choose = functools.partial(jax.random.choice, a=later.shape[1], shape=(drawn,))
        picked = jax.vmap(lambda key: choose(jax.random.fold_in(key, 1), replace=False))(keys)
        later = tail.pick(later, picked)
    clean = likelihood.to_grid(video[:, :-1], metric)
    return TailFrames(likelihood.dequantize(keys, later, metric), clean, picked)


def dims(x: Array) -> int:
    """D: height * width * channels of a frame."""
    return int(np.prod(x.shape[-3:]))


def head_loss(config: Config, params: Params, batch: Batch, step: Array | int) -> tuple[Any, Any]:
    """Mean bits per dimension of the first frames, and what to log about them."""
    keys = streams.example_keys(config.seed, step, batch.example, streams.HEAD)
    x = head_frames(keys, batch.video, config.metric)
    bits, terms = _bits_and_terms(config.metric, head.log_prob(config, params, x, batch.label), x)
    return _loss(jnp.mean(bits), jax.tree.map(jnp.mean, terms), x)


def tail_loss(config: Config, params: Params, batch: Batch, step: Array | int) -> tuple[Any, Any]:
    """Mean bits per dimension of the frames after the first, and what to log about them.

    `tail.frames_at_once` of them pass through the tail together.
    """
    keys = streams.example_keys(config.seed, step, batch.example, streams.TAIL)
    frames = tail_frames(keys, batch.video, config.metric, config.tail_frames)

    def bits_and_terms(params: Params, chunk: Any) -> tuple[Array, dict[str, Array]]:
        density = tail.frames_log_prob(config, params, *chunk)
        return _bits_and_terms(config.metric, density, chunk[0])

    loss, terms = chunks.mean(
        bits_and_terms,
        params,
        tail.frames_and_contexts(config, params, *frames),
        tail.frames_at_once(config),
    )
    return _loss(loss, terms, frames.x)


LOSSES = {"head": head_loss, "tail": tail_loss}


def _bits_and_terms(metric: Metric, density: Density, x: Array) -> tuple[Array, dict[str, Array]]:
    bits = likelihood.bits_per_dim(density.log_prob, dims(x), metric)
    return bits, {
        "log_det_per_dim": density.log_det / dims(x),
        "log_prior_per_dim": density.log_prior / dims(x),
    }


def _loss(loss: Array, terms: dict[str, Array], x: Array) -> tuple[Any, Any]:
    logs = terms | {
        "bits_per_dim": loss,
        "frame_mean": jnp.mean(x),
        "frame_mean_square": jnp.mean(x**2),  # E[x^2]; a mean, so any number of devices agrees
    }
    return loss, logs


def changed_if(condition: Array, change: Callable[[], PyTree], state: PyTree) -> PyTree:
    """`change()`, a next state, where the scalar `condition` holds; else `state`.

    On CPU as a branch: inside one, XLA writes Adam's moments and the parameters over the old ones,
    where a selection has it copy them first. On an accelerator the host would have to wait for the
    condition.
    """

    def branch() -> PyTree:
        return lax.cond(condition, change, lambda: state)

    def selection() -> PyTree:
        return jax.tree.map(lambda new, old: jnp.where(condition, new, old), change(), state)

    return lax.platform_dependent(cpu=branch, default=selection)


def train_step(
    config: Config,
    loss: Callable[..., tuple[Any, Any]],
    optimiser: optax.GradientTransformation,
    clip: float,
    state: ModelState,
    batch: Batch,
) -> tuple[ModelState, dict[str, Array]]:
    """One step of Adam; the body of a `pmap` over `DEVICES`.

    A step whose loss or gradient is not finite on any device changes nothing and is counted.

    Args:
        config: the run's.
        loss: (config, params, batch, step) -> (bits per dimension, logs).
        optimiser: clips at `clip`, too.
        clip: the gradient norm above which a step counts as clipped.
        state: before the step.
        batch: this device's share.

    Returns:
        The next state, and metrics averaged over devices: those of the loss, "gradient_norm" (in
        all, before clipping) and "gradient_norm/<part>", and the state's counters "skipped",
        "skipped_in_a_row" and "clipped".
    """
    (value, logs), gradients = jax.value_and_grad(
        lambda params: loss(config, params, batch, state.step), has_aux=True
    )(state.params)
    value, logs, gradients = mean_over_devices((value, logs, gradients))
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(value) & jnp.isfinite(norm)

    def moved() -> PyTree:
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return params, next_average(config, state.average, params, state.step), opt_state

    params, average, opt_state = changed_if(
        finite, moved, (state.params, state.average, state.opt_state)
    )
    counters = {
        "skipped": state.skipped + jnp.where(finite, 0, 1),
        "skipped_in_a_row": jnp.where(finite, 0, state.skipped_in_a_row + 1),
        "clipped": state.clipped + jnp.where(finite & (norm > clip), 1, 0),
    }
    logs |= {"gradient_norm": norm}
    logs |= {f"gradient_norm/{part}": optax.tree.norm(g) for part, g in gradients.items()}
    next_state = ModelState(params, average, opt_state, state.step + 1, **counters)
    return next_state, logs | counters


class VideoBits(NamedTuple):
    """Bits per dimension of each video's first frame [B] and of its later frames [B, T - 1]."""

    head: Float[Array, " batch"]
    tail: Float[Array, "batch later_frames"]


def eval_step(
    config: Config,
    metric: Metric,
    seed: int,
    params: dict[str, Params],
    batch: Batch,
    draw: Array | int = 0,
) -> VideoBits:
    """Bits per dimension of every frame of every video under `metric`.

    Noise is fixed by `seed` and the number of the `draw`.

    `params` is {"head": ..., "tail": ...}; single images [B, 1, H, W, 3] need no tail, and have no
    later frames, [B, 0].
    """
    head_keys, tail_keys = (
        streams.example_keys(seed, draw, batch.example, stream)
        for stream in (streams.HEAD, streams.TAIL)
    )
    x = head_frames(head_keys, batch.video, metric)
    density = head.log_prob(config, params["head"], x, batch.label)
    first = likelihood.bits_per_dim(density.log_prob, dims(x), metric)
    if batch.video.shape[1] == 1:
        return VideoBits(first, jnp.zeros((len(first), 0)))
    frames = tail_frames(tail_keys, batch.video, metric)
    density = tail.log_prob(config, params["tail"], *frames)
    return VideoBits(first, likelihood.bits_per_dim(density.log_prob, dims(x), metric))


def init_params(config: Config, batch: Batch) -> dict[str, Params]:
    """Parameters of `config.models`, with ActNorm set from this batch (the same on every host)."""
    head_key, tail_key = jax.random.split(streams.stream_key(config.seed, streams.PARAMS))
    head_keys, tail_keys = (
        streams.example_keys(config.seed, 0, batch.example, stream)
        for stream in (streams.HEAD, streams.TAIL)
    )
    x = head_frames(head_keys, batch.video, config.metric)
    params = {"head": head.init(config, head_key, x, batch.label)}
    if "tail" in config.models:
        frames = tail_frames(tail_keys, batch.video, config.metric, config.tail_frames)
        params["tail"] = tail.init(config, tail_key, *frames)
    return params
