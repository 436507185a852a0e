"""Measures how fast this machine computes and how fast it moves bytes, beside training steps.

Functions are meant for a process of its own that may use one core. They take processor time, which
other work on the machine disturbs less than time by the clock; on one core of an idle machine both
are the same.
"""

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.measuring import costs
from experiments.planning import program
from flowvid import cli
from flowvid.flows.convolution import Window, im2col

# Rows, summed products and columns of matrix products: large ones, and two as of 3x3 convolutions.
_PRODUCTS = {
    "product_flop": (1024, 1024, 1024),
    "medium_flop": (1024, 9 * 48, 48),
    "narrow_flop": (2048, 9 * 12, 16),
}
_LEAST_FLOP = 1e9  # of a measurement
_LARGE = 2**22  # numbers, about as many as the activations of a step
_IMAGES = (16, 32, 32, 16)  # whose windows are put together
_SMALL = 2**14  # numbers, which every cache holds
_CHAIN, _REPEATED = 16, 256  # operations on each of them, and how often
_STREAMED = 8  # times that the large numbers are read and written


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Returns the processor time of a call whose results are waited for."""
    start = time.process_time()
    jax.block_until_ready(work())
    return time.process_time() - start


def probes() -> dict[str, tuple[Callable[[], Any], float]]:
    """Returns compiled work for each rate, and how much it is, in FLOP, elements or bytes."""
    large, small = (jnp.full(n, 0.5) for n in (_LARGE, _SMALL))

    def repeated(change: Callable[[Any], Any], times: int = _REPEATED) -> Callable[[Any], Any]:
        return jax.jit(lambda x: jax.lax.fori_loop(0, times, lambda _, y: change(y), x))

    def chain(x: Any) -> Any:
        for _ in range(_CHAIN // 2):
            x = x * x + 0.25
        return x

    def product(rows: int, summed: int, columns: int) -> tuple[Callable[[], Any], float]:
        a, b = jnp.full((rows, summed), 0.5), jnp.full((summed, columns), 0.5)
        flop, multiply = 2.0 * rows * summed * columns, jax.jit(lambda a, b: a @ b)
        repeats = math.ceil(_LEAST_FLOP / flop)
        return lambda: [multiply(a, b) for _ in range(repeats)], flop * repeats

    images = jnp.full(_IMAGES, 0.5)
    put_together = jax.jit(_windows_and_back)
    number = program.count(jax.make_jaxpr(_windows_and_back)(images).jaxpr, "cpu").windows
    chained, exponential = repeated(chain), repeated(lambda x: jnp.exp(-x))
    increased = repeated(lambda x: x + 1, _STREAMED)
    found: dict[str, tuple[Callable[[], Any], float]] = {
        **{name: product(*sides) for name, sides in _PRODUCTS.items()},
        "traffic": (lambda: increased(large), 2.0 * 4 * _LARGE * _STREAMED),
        "windows": (lambda: put_together(images), number),
        "elementwise": (lambda: chained(small), float(_SMALL * _CHAIN * _REPEATED)),
        "transcendental": (lambda: exponential(small), float(_SMALL * _REPEATED)),
    }
    for work, _ in found.values():
        jax.block_until_ready(work())
    return found


def _windows_and_back(x: Any) -> Any:
    """Returns sums over the windows of 3x3 convolutions, put together and taken apart again."""
    windows, apart = jax.vjp(functools.partial(im2col, Window((3, 3))), x)
    return apart(jax.lax.optimization_barrier(windows))[0]


def rates_per_second(found: dict[str, tuple[Callable[[], Any], float]]) -> dict[str, float]:
    """Returns what `probes` take per second, each called once."""
    return {name: amount / cpu_seconds(work) for name, (work, amount) in found.items()}


def step_in_turns(name: str, changes: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Takes training steps of "head" or "tail" and measures the machine's rates, in turns.

    Args:
        name: of the model.
        changes: the configuration, as in `experiments.measuring.costs`.
        rounds: steps that are timed, after one that is not.

    Returns:
        for each round {"seconds" of the step, "rates" measured before and after it}.
    """
    cli.enable_compilation_cache()
    take = costs.step_of(costs.config_of(changes), name)
    _, metrics = jax.block_until_ready(take())
    assert not metrics["skipped"].any()  # otherwise the parameters are not updated
    found, measured = probes(), []
    rates_per_second(found)
    for _ in range(rounds):
        before = rates_per_second(found)
        seconds = cpu_seconds(take)
        after = rates_per_second(found)
        mean = {rate: (before[rate] + after[rate]) / 2 for rate in before}
        measured.append({"seconds": seconds, "rates": mean})
    return measured


def measured(rounds: int) -> dict[str, float]:
    """Returns the medians of the machine's rates per second."""
    found = probes()
    rates_per_second(found)
    of_rounds = [rates_per_second(found) for _ in range(rounds)]
    return {name: statistics.median(rates[name] for rates in of_rounds) for name in found}
