"""Goes through videos frame by frame with constant memory: what is seen before each frame.

Its programs are those of single frames, whatever the length of a video.
"""

import functools
from typing import Any

from jax import Array
from jaxtyping import Int, UInt8

from flowvid.arrays import Params
from flowvid.conditioning.protocol import Conditioning, State
from flowvid.config.schema import Config
from flowvid.flows.protocol import CodeBins, Contexts
from flowvid.parallel.compilation import jit
from flowvid.video import head, tail
from flowvid.video.build import encoder_of, flow_of, frame_shape
from flowvid.video.pixels import to_grid, to_pixels

Frames = UInt8[Array, "batch height width channels"]


class Walk:
    """What is known of some videos after the frames that were seen so far.

    Attributes:
        seen: their number.
        last: the last of them, on the metric's grid; None before the first.
        state: the context encoder's, once it has seen them; None where the tail sees none.
    """

    def __init__(
        self, config: Config, params: dict[str, Params], labels: Int[Array, " batch"]
    ) -> None:
        """Starts before the first frame.

        Args:
            config: the run's.
            params: of head and tail by name.
            labels: of the videos; the number of labels where one is not told.
        """
        self._config, self._params, self._labels = config, params, labels
        self.last: Any = None
        self.state: State = None
        self.seen = 0

    @property
    def model(self) -> str:
        """The model of the next frame: "head" or "tail"."""
        return "tail" if self.seen else "head"

    def contexts(self) -> Contexts:
        """Returns what the model of the next frame is conditioned on."""
        config, params = self._config, self._params[self.model]
        if not self.seen:
            return _head_contexts(config, params, self._labels)
        seen = tail.conditioning(config, self.last, self.state, self._labels)
        return _tail_contexts(config, params, seen)

    def see(self, pixels: Frames) -> None:
        """Goes on by one frame of each video."""
        frames = _on_grid(self._config, pixels)
        if "tail" in self._config.models:
            if not self.seen:
                self.state = tail.first_state(self._config, frames)
            self.state = _next_state(self._config, self._params["tail"], self.state, frames)
        self.last = frames
        self.seen += 1

    def coded(self, code: CodeBins) -> Frames:
        """Goes on by one frame of each video, whose bins `code` gives; returns the frames.

        Two walks through the same number of videos with the same bins see the same masses, bit for
        bit, because they run the same compiled programs. The run's flow models bins.
        """
        model, shape = self.model, (len(self._labels), *frame_shape(self._config))
        coded = flow_of(self._config, model).coded
        assert coded is not None  # where the flow models bins
        x = coded(self._params[model]["flow"], shape, self.contexts(), code)
        pixels = to_pixels(x, self._config.metric)
        self.see(pixels)
        return pixels


_jit = functools.partial(jit, static_argnums=0)


@_jit
def _on_grid(config: Config, pixels: Frames) -> Array:
    return to_grid(pixels, config.metric)


@_jit
def _head_contexts(config: Config, params: Params, labels: Any) -> Contexts:
    return head.contexts_of(config, params, labels)


@_jit
def _tail_contexts(config: Config, params: Params, seen: Conditioning) -> Contexts:
    return encoder_of(config, "tail").encode(params["context"], seen)


@_jit
def _next_state(config: Config, params: Params, state: State, frames: Any) -> State:
    return tail.next_state(config, params, state, frames)
