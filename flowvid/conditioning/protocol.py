"""The contract of a context encoder: from what a model sees to one context map per level.

Dimensions: B batch, H height, W width, C channels, K context channels of a level, L levels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from jax import Array
from jaxtyping import Float, Int, Key, PRNGKeyArray

from flowvid.arrays import Images, Labels, Params
from flowvid.conditioning.sees import Sees
from flowvid.fields import Presets
from flowvid.flows.protocol import Contexts, Diagnostic, Shape
from flowvid.sizes import Size

# The optimiser leaves parameters below a name that ends so to Adam, where Muon trains the matrices.
BY_ADAM = "_by_adam"

State = Any  # a tree of arrays with a leading batch axis, or None where there is no state


class Conditioning(NamedTuple):
    """What a model sees when it models one frame; None stands for what it does not see."""

    # A label's index; the number of labels stands for a label that is not told, which is seen if
    # the settings say DROPS_LABELS.
    label: Int[Array, "*batch"] | None = None
    # the frame before, without noise, on the metric's grid
    previous: Float[Array, "*batch height width channels"] | None = None
    state: State = None  # after it has seen that frame


class ContextEncoder(NamedTuple):
    """Turns a `Conditioning` into context maps, and carries a state through time.

    - `init(key, labels, frames) -> {part: params}`: `labels` [B] and `frames` [N, H, W, C] are of
      the first batch, for data-dependent initialisation; `frames` is None where none are seen.
    - `encode(params, conditioning) -> contexts`: one map [B, H / 2^l, W / 2^l, K] per level, or
      [B, 1, 1, K] where the same is seen at every pixel, or None where nothing is seen.
    - `first_state(frame) -> state` before any frame is seen, and
      `next_state(params, state, frame) -> state` once a frame is seen; of a fixed size for videos
      of any length, and None where the model sees no state.
    - `channels`: K of each level; 0 where nothing is seen, or the same at every pixel, which costs
      next to nothing.
    - `label_table(params)`: what is learned of each label, [labels, ...], such as its image; None
      where the label is not seen.
    - `diagnostics(params) -> {name: Diagnostic}`, of parameters on the host.
    - `flop(shape) -> {part: float}`: floating-point operations per frame of the forward pass.
    - `anchors`: the number of guesses at the frame, the best one first, at the level's resolution
      (every 2^l-th row and column) and in [-1/2, 1/2), with which each map begins, 3 channels each.
      They count in K.
    - `auxiliary_loss(params, keys, frames, states, labels) -> (loss, logs)`, or None: a further
      training loss of the encoder, from whole clips, which is added to bits per dimension. It is no
      part of any likelihood. `keys` [B] are for this use alone, `frames` [B, T, H, W, C] are
      without noise, and entry t of `states` [B, T, ...] has seen frames 0..t.
    - `with_past(params, keys, state, labels) -> state`, or None: what samples are continued from
      where a single frame is known, which does not show how things move. The state has seen that
      frame, and then also one before it, which is drawn from one key per video. It is no part of
      any likelihood.
    """

    init: Callable[[PRNGKeyArray, Labels, Any], dict[str, Params]]
    encode: Callable[[Params, Conditioning], Contexts]
    first_state: Callable[[Images], State]
    next_state: Callable[[Params, State, Images], State]
    channels: Sequence[int]
    label_table: Callable[[Params], Any]
    diagnostics: Callable[[Params], dict[str, Diagnostic]]
    flop: Callable[[Shape], dict[str, float]]
    anchors: int = 0
    auxiliary_loss: (
        Callable[[Params, Key[Array, " batch"], Any, State, Labels], tuple[Array, dict[str, Array]]]
        | None
    ) = None
    with_past: Callable[[Params, Key[Array, " batch"], State, Labels], State] | None = None


@dataclass(frozen=True)
class EncoderOptions:
    """What an encoder is told when it is built, besides its own settings."""

    levels: int
    image_size: Size
    num_labels: int
    sees: Sees


class EncoderSettings(Protocol):
    """A frozen dataclass whose fields are an encoder's flags; an entry of `CONTEXTS`.

    Its module imports JAX inside `build` alone, so that `--help` does not wait for JAX.
    """

    PRESETS: ClassVar[Presets]  # {preset: {field: value}}
    # Whether a label that is not told can be encoded, which --label_dropout and guidance need.
    DROPS_LABELS: ClassVar[bool]

    def check(self, image_size: Size, levels: int) -> None:
        """Raises ConfigError when frames of this size cannot be encoded."""

    def check_crop(self, crop: Size, image_size: Size, sees: Sees) -> None:
        """Raises ConfigError when windows of frames cannot be encoded as these are."""

    def build(self, options: EncoderOptions) -> ContextEncoder:
        """Returns the encoder of one model."""

    def describe(self, sees: Sees) -> list[str]:
        """Returns a line for each thing that is seen, for the model diagram (Figure 1)."""
