"""Runs functions on all local devices: the only `pmap` of the project.

A body is a pure function of one device's share of a batch. Inside it, gradients and metrics are
averaged over all devices of all processes.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jaxtyping import PyTree

from flowvid.parallel.compilation import compiled

DEVICES = "devices"


class OnDevices:
    """A function of arrays that are split over the local devices on their leading axis.

    Attributes:
        lower: traces and lowers the function for arguments, or for their shapes and types.
    """

    def __init__(self, body: Callable[..., Any], donate: tuple[int, ...]) -> None:
        self._mapped = jax.pmap(body, axis_name=DEVICES, donate_argnums=donate)
        self._programs: dict[Any, Any] = {}
        self.lower: Callable[..., Any] = self._mapped.lower

    def __call__(self, *arguments: Any) -> Any:
        """Runs the body on all devices, compiled once for each shape of the arguments."""
        if jax.process_count() > 1:  # `pmap` cannot be compiled ahead of its first call
            return self._mapped(*arguments)
        return self.compile(*arguments)(*arguments)

    def compile(self, *arguments: Any) -> Any:
        """Returns the program for arguments of these shapes and types, compiled at most once."""
        leaves, structure = jax.tree.flatten(arguments)
        key = (structure, *((leaf.shape, leaf.dtype) for leaf in leaves))
        if key not in self._programs:
            self._programs[key] = compiled(self.lower(*arguments))
        return self._programs[key]


def on_devices(body: Callable[..., Any], donate: tuple[int, ...] = ()) -> OnDevices:
    """Returns `body` compiled for all local devices; arguments are split on their leading axis.

    `pmap` itself takes no options of the compiler, so programs are compiled ahead of their first
    call.
    """
    return OnDevices(body, donate)


def replicate(tree: PyTree) -> PyTree:
    """Copies a tree to all local devices, on a new leading axis."""
    count = jax.local_device_count()
    return _copy()(
        jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (count, *np.shape(x))), tree)
    )


@functools.cache
def _copy() -> Any:
    return on_devices(lambda x: x)


def unreplicate(tree: PyTree) -> PyTree:
    """Returns the first copy of a replicated tree on the host, which donation cannot overwrite."""
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data)[0], tree)


def dispatch_max(value: int) -> Array:
    """Returns the largest value of all processes, replicated, without waiting for the others.

    Every process must call this. Read the result with `unreplicate`.
    """
    return _max()(np.full(jax.local_device_count(), value, np.int32))


@functools.cache
def _max() -> Any:
    return on_devices(lambda x: lax.pmax(x, DEVICES))


def gather(tree: PyTree) -> PyTree:
    """Inside a body: concatenates the arrays of all devices of all processes (leading axis)."""
    return jax.tree.map(lambda x: lax.all_gather(x, DEVICES, tiled=True), tree)


def mean_over_devices(tree: PyTree) -> PyTree:
    """Inside a body: averages every array over all devices of all processes."""
    # XLA's CPU compiler would copy every gradient even with a single device.
    return tree if lax.axis_size(DEVICES) == 1 else lax.pmean(tree, DEVICES)


def shard(tree: PyTree) -> PyTree:
    """Splits the leading axis of every array over the local devices.

    Raises:
        ValueError: if its size is not divisible by their number.
    """
    count = jax.local_device_count()

    def split(x: Any) -> Any:
        if x.shape[0] % count:
            raise ValueError(
                f"A batch of {x.shape[0]} videos is not divisible by {count} devices: make "
                f"--batch_size a multiple of {count}."
            )
        return x.reshape(count, x.shape[0] // count, *x.shape[1:])

    return jax.tree.map(split, tree)
