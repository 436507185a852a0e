"""Walks through a clip as sender and receiver do: frame after frame, with the masses of all bins.

Both compute what they know of the next frame from the frames before it, with the same compiled
programs, one frame at a time.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from flowvid.arrays import Params
from flowvid.conditioning.protocol import Conditioning, State
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.flows.protocol import CodeBins, Contexts
from flowvid.video import head, tail
from flowvid.video.build import encoder_of, flow_of, frame_shape
from flowvid.video.pixels import to_grid, to_pixels

Frame = UInt8[np.ndarray, "height width 3"]


def check(config: Config) -> None:
    """Refuses runs that cannot compress.

    Raises:
        ConfigError: where the run's flow has no masses of bins, or its bins are not grey values.
    """
    if not config.flow_settings.BINS:
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
    """The frames of one clip that have been sent or received so far.

    Attributes:
        count: their number.
    """

    def __init__(self, config: Config, params: dict[str, Params], label: int) -> None:
        """Starts a clip.

        Args:
            config: the run's.
            params: of head and tail by name.
            label: of the clip; the number of labels if it is not told.
        """
        self._config, self._params = config, params
        self._label = jnp.array([label], jnp.int32)
        self._last: Any = None
        self._state: Any = None
        self.count = 0

    def next(self, frame: Frame | None, code: CodeBins) -> Frame:
        """Sends a frame with `code`, or, if it is None, receives one; returns the frame."""
        config, params = self._config, self._params
        known = np.zeros(frame_shape(config), np.uint8) if frame is None else frame
        x = to_grid(jnp.asarray(known)[None], config.metric)
        if not self.count:
            model, contexts = "head", _head_contexts(config, params["head"], self._label)
        else:
            seen = tail.conditioning(config, self._last, self._state, self._label)
            model, contexts = "tail", _tail_contexts(config, params["tail"], seen)
        coded = flow_of(config, model).coded
        assert coded is not None  # as `check` says
        found = coded(params[model]["flow"], x, contexts, code)
        if "tail" in config.models:
            if not self.count:
                self._state = tail.first_state(config, found)
            self._state = _next_state(config, params["tail"], self._state, found)
        self._last = found
        self.count += 1
        return np.asarray(to_pixels(found, config.metric))[0]


_jit = functools.partial(jax.jit, static_argnums=0)


@_jit
def _head_contexts(config: Config, params: Params, label: Any) -> Contexts:
    return head.contexts_of(config, params, label)


@_jit
def _tail_contexts(config: Config, params: Params, seen: Conditioning) -> Contexts:
    return encoder_of(config, "tail").encode(params["context"], seen)


@_jit
def _next_state(config: Config, params: Params, state: State, frame: Any) -> State:
    return tail.next_state(config, params, state, frame)
