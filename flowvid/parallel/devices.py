"""Runs functions on all local devices: the only `pmap` of the project.

A body is a pure function of one device's share of a batch. Inside it, gradients and metrics are
averaged over every device of every host.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jaxtyping import PyTree

DEVICES = "devices"


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
