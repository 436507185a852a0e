"""`python -m flowvid.train` with bad data: the tail's loss is NaN on the examples of --poison.

The fault drill starts it. All other flags are those of `flowvid.train`.
"""

from typing import Any

import jax.numpy as jnp
from absl import flags

from flowvid import cli, train
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.training import objectives
from flowvid.video.frames import Batch

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of training, and --poison."""
    train.define_flags()
    flags.DEFINE_list(
        "poison", [], "Positions in the data and ranges of them: 100,104:112,200: (to the end)."
    )


def parse(ranges: list[str]) -> list[tuple[int, int]]:
    """Returns half-open ranges of positions.

    Raises:
        ConfigError: for anything but numbers, start:stop and start:.
    """
    parsed = []
    for text in ranges:
        start, colon, stop = text.partition(":")
        if not start.isdecimal() or not (stop.isdecimal() or not stop):
            raise ConfigError(
                f"--poison={text} is not a position: use 100, 104:112 or 200: instead."
            )
        last = int(stop) if stop else int(start) + 1 if not colon else 2**31 - 1
        parsed.append((int(start), last))
    return parsed


def poisoned(loss: Any, ranges: list[tuple[int, int]]) -> Any:
    """Returns a loss of `objectives.LOSSES` that is NaN, with its gradient, on some examples."""

    def with_poison(config: Config, params: Any, batch: Batch, step: Any) -> Any:
        value, logs = loss(config, params, batch, step)
        example = batch.example
        bad = jnp.stack([(example >= start) & (example < stop) for start, stop in ranges]).any()
        value = value * jnp.where(bad, jnp.nan, 1.0)
        return value, logs | {"bits_per_dim": value}

    return with_poison


def main() -> None:
    """Poisons the tail's loss and trains."""
    if ranges := parse(FLAGS.poison):
        objectives.LOSSES["tail"] = poisoned(objectives.LOSSES["tail"], ranges)
    train.main()


if __name__ == "__main__":
    define_flags()
    cli.run(main)
