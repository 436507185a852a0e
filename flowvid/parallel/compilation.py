"""How much XLA optimises the programs for a CPU: less, because compilation takes most of a start.

At LLVM's level 1, the programs of `--preset=small` are compiled in 60 to 80% of the time of the
default, 3, and run as fast (docs/speed.md).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax


def compiler_options(level: int = 1) -> dict[str, int] | None:
    """Returns the options of `jax.jit` for a level of LLVM's optimisation; None on other devices.

    JAX's own variable JAX_DISABLE_MOST_OPTIMIZATIONS takes precedence.

    Args:
        level: from 0 to 3. A program that runs once should have 0.
    """
    if jax.default_backend() != "cpu" or jax.config.read("jax_disable_most_optimizations"):
        return None
    return {"xla_backend_optimization_level": level}


def compiled(lowered: Any) -> Any:
    """Returns a lowered program, compiled with `compiler_options`."""
    return lowered.compile(compiler_options=compiler_options())


def jit(function: Callable[..., Any], static_argnums: int | Sequence[int]) -> Callable[..., Any]:
    """Returns `jax.jit` of a function with `compiler_options`.

    It is made at the first call, because asking for the device starts JAX, and several processes
    must have found each other before.
    """

    @functools.cache
    def jitted() -> Callable[..., Any]:
        options = compiler_options()
        return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return jitted()(*arguments)

    return call
