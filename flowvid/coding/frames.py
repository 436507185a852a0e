"""Sends or receives a clip frame after frame, with the masses of all bins.

Both sides compute what they know of the next frame from the frames before it, with the same
compiled programs, one frame at a time.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from flowvid.arrays import Params
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.video.build import frame_shape
from flowvid.video.pixels import to_bins
from flowvid.video.walk import Walk

Frame = UInt8[np.ndarray, "height width 3"]
Bins = Int[np.ndarray, " numbers"]
# From the masses of numbers and their bins, where these are known, to their bins.
Code = Callable[[Float[np.ndarray, "numbers bins"], Bins], Bins]


def check(config: Config) -> None:
    """Refuses runs that cannot compress.

    Raises:
        ConfigError: where the run's flow has no masses of bins, or its bins are not grey values.
    """
    if not config.models_bins:
        raise ConfigError(
            f"--flow={config.flow} has no probabilities of grey values to compress with: use a run "
            "of --flow=mixture with --n_bits=8."
        )
    if config.n_bits != 8:
        raise ConfigError(
            f"this run models {config.n_bits} bits of each grey value and would lose the others: "
            "use a run with --n_bits=8."
        )


class Clip:
    """A clip, of which some frames are sent or received."""

    def __init__(self, config: Config, params: dict[str, Params], label: int) -> None:
        """Starts a clip.

        Args:
            config: the run's.
            params: of head and tail by name.
            label: of the clip; the number of labels if it is not told.
        """
        self._config = config
        self._walk = Walk(config, params, jnp.array([label], jnp.int32))

    def next(self, frame: Frame | None, code: Code) -> Frame:
        """Sends a frame with `code`, or, if it is None, receives one; returns the frame."""
        known = np.zeros(frame_shape(self._config), np.uint8) if frame is None else frame
        bins = to_bins(known, self._config.metric).ravel()
        found = self._walk.coded(lambda masses, places: code(masses, bins[places]))
        return np.asarray(found)[0]
