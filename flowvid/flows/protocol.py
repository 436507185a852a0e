"""The contract of a flow over images, which head and tail are built on.

Dimensions: B batch, H height, W width, C channels, K context channels of a level.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key, PRNGKeyArray

from flowvid.arrays import Params
from flowvid.fields import Presets
from flowvid.flows.density import Density
from flowvid.sizes import Size

Contexts = Sequence[Array | None]
Latents = tuple[Array, ...]
Shape = tuple[int, int, int]  # height, width, channels


class Diagnostic(NamedTuple):
    """A number that tells how near a model is to breaking, and the range in which it is safe."""

    value: float
    what: str  # as a warning names it: "a log-scale"
    low: float = -math.inf
    high: float = math.inf


# From the masses of independent numbers, and their places in the flattened images, to their bins.
CodeBins = Callable[
    [Float[np.ndarray, "numbers bins"], Int[np.ndarray, " numbers"]], Int[np.ndarray, " numbers"]
]
Places = tuple[Int[np.ndarray, "height width channels"], ...]


class Flow(NamedTuple):
    """A conditional density over images, as pure functions.

    `contexts` holds one map [B, H / 2^l, W / 2^l, K] for each level l, or [B, 1, 1, K] where the
    same is seen at every pixel, or None where the flow is not conditioned.
    Latents are standardised: under the model each is N(0, 1), independent of the rest.
    Densities are in nats, one per example.

    - `init(key, x, contexts) -> params` sees a batch, for data-dependent initialisation.
    - `log_prob(params, x, contexts) -> Density`.
    - `changeable_log_prob(params, x, contexts) -> log p(x)`, up to a term that is the same for all
      contexts [B, 1, 1, K]. It compares what two labels say of the same image, at less cost.
    - `log_masses(params, x, contexts) -> [B, H, W]`, in nats: where the bits of the discrete images
      are spent. It is None where the settings' BINS is False.
    - `encode(params, x, contexts) -> latents` and `decode(params, latents, contexts) -> x` are each
      other's inverse, up to rounding. `coded` has no rounding: see `flowvid.video.latents`.
    - `sample(params, keys, shape, contexts, temperature, guidance) -> x` draws images of `shape`
      (H, W, C), one per key; a `temperature` below 1 keeps to what is likelier, and 1 is the
      density itself. It is one number, or one for each of `latent_shapes`, of which the last also
      counts for those that follow. `guidance` is None where the settings' GUIDANCE is.
    - `coded(params, shape, contexts, code) -> x` asks `code` for the bins of images of `shape`
      (B, H, W, C), in parts, with the masses that these have, and returns their lower edges. The
      masses given the same bins before them are the same in every call, bit for bit. It is None
      where the settings' BINS is False.
    - `latent_places(shape) -> [int array [h, w, c] per level]`, the shapes being `latent_shapes`:
      the place in a flattened image (H, W, C) whose bin each latent decides. It is None where the
      settings' BINS is False.
    - `prepare(params) -> params` computes what many calls of `decode` and `sample` share. These two
      accept parameters in either form.
    - `latent_shapes(shape) -> [shape per level]`, without the batch.
    - `diagnostics(params) -> {name: Diagnostic}`, of parameters on the host; {} if there are none.
    - `flop(shape, context_channels) -> float`: floating-point operations of one image's forward
      pass, a multiply-add counted as two; `context_channels` holds K of each level.
    - `activation_size(shape, context_channels) -> int`: the numbers that the backward pass of one
      image keeps.
    """

    init: Callable[[PRNGKeyArray, Any, Contexts], Params]
    log_prob: Callable[[Params, Any, Contexts], Density]
    changeable_log_prob: Callable[[Params, Any, Contexts], Array]
    log_masses: Callable[[Params, Any, Contexts], Array] | None
    encode: Callable[[Params, Any, Contexts], Latents]
    decode: Callable[[Params, Latents, Contexts], Any]
    sample: Callable[[Params, Any, Shape, Contexts, Any, "Guidance | None"], Any]
    coded: Callable[[Params, tuple[int, int, int, int], Contexts, CodeBins], Any] | None
    latent_places: Callable[[Shape], Places] | None
    prepare: Callable[[Params], Params]
    latent_shapes: Callable[[Shape], list[Shape]]
    diagnostics: Callable[[Params], dict[str, Diagnostic]]
    flop: Callable[[Shape, Sequence[int]], float]
    activation_size: Callable[[Shape, Sequence[int]], int]


class Guidance(NamedTuple):
    """How far samples go beyond what the label says (Ho and Salimans 2022).

    With a scale s, samples follow p(x | nothing) (p(x | label) / p(x | nothing))^s, normalised for
    each number that is drawn; 1 is the model itself.
    """

    scale: Float[Array, ""]
    contexts: Contexts  # what is seen without the label


@dataclass(frozen=True)
class BuildOptions:
    """What a flow is told when it is built, besides its own settings."""

    model: str  # "head" or "tail"
    levels: int
    data_dependent: bool = True  # whether `init` may use its batch
    reversible: bool = False  # whether the backward pass rebuilds activations (--backprop)
    dtype: str | None = None  # of the networks' arithmetic; None for that of the parameters
    num_bins: int = 256  # 2^n of the run's metric
    anchors: int = 0  # how many guesses at the image each context map begins with


class FlowSettings(Protocol):
    """A frozen dataclass whose fields are a flow's flags (`flowvid.fields`); an entry of `FLOWS`.

    Its module imports JAX inside `build` alone, so that `--help` does not wait for JAX.
    """

    PRESETS: ClassVar[Presets]  # {preset: {field: value}}
    # Whether the density is constant in each of the metric's bins. Then bits per dimension need no
    # noise, and the metric "paper", whose pixels are not floored to bins, has no meaning.
    BINS: ClassVar[bool]
    # {"head": ..., "tail": ...}: the scales of guidance with which `sample` draws where none is
    # given, or None where the flow cannot be guided.
    GUIDANCE: ClassVar[dict[str, float] | None]

    def check(self, image_size: Size, levels: int) -> None:
        """Raises ConfigError when frames of this size cannot be modelled."""

    def build(self, options: BuildOptions) -> Flow:
        """Returns the flow of one model."""

    def temperatures(self, model: str, levels: int) -> Sequence[float]:
        """Returns the temperatures at which `sample` draws where none is given, as `of_level`."""

    def describe(self, model: str, shape: Shape, levels: int) -> list[str]:
        """Returns a text for each of the flow's latents, for the model diagram (Figure 1).

        It says in a few words how frames of this shape get there.
        """


def check_image_size(height: int, width: int, levels: int) -> None:
    """Checks that each side can be halved once per level.

    Raises:
        ValueError: naming the side and both numbers.
    """
    for side, size in (("Height", height), ("Width", width)):
        if size < 1 or size % 2**levels:
            raise ValueError(
                f"{side} {size} must be divisible by {2**levels}, because each of the {levels} "
                "levels halves it: use another image size or fewer levels."
            )


def is_constant_map(context: Float[Array, "batch height width channels"]) -> bool:
    """Returns whether a context map says the same of every pixel."""
    return context.shape[1:3] == (1, 1)


def are_constant_maps(contexts: Contexts) -> bool:
    """Returns whether the flow is conditioned, and each level on the same at every pixel."""
    return all(context is not None and is_constant_map(context) for context in contexts)


def of_level(temperature: Float[Array, "*levels"], level: int) -> Float[Array, ""]:
    """Returns the temperature of a level; one, or the last of several, is that of coarser ones."""
    found = jnp.atleast_1d(temperature)
    return found[min(level, len(found) - 1)]


def sample_latents(
    keys: Key[Array, " batch"], shapes: Sequence[Shape], temperature: Float[Array, "*levels"]
) -> Latents:
    """Draws normal latents from one key per example.

    Their standard deviation is `temperature`, or, if it is one number per level, the level's; the
    last one is also that of the levels after it.
    """

    def draw(key: PRNGKeyArray) -> Latents:
        level_keys = jax.random.split(key, len(shapes))
        return tuple(jax.random.normal(k, s) for k, s in zip(level_keys, shapes, strict=True))

    drawn = enumerate(jax.vmap(draw)(keys))
    return tuple(of_level(temperature, level) * z for level, z in drawn)


def sample_by_decoding(
    decode: Callable[[Params, Latents, Contexts], Any],
    latent_shapes: Callable[[Shape], list[Shape]],
) -> Callable[[Params, Any, Shape, Contexts, Any, Guidance | None], Any]:
    """Returns a flow's `sample` that decodes independent normal latents."""

    def sample(
        params: Params,
        keys: Key[Array, " batch"],
        shape: Shape,
        contexts: Contexts,
        temperature: Float[Array, "*levels"],
        guidance: Guidance | None = None,
    ) -> Any:
        if guidance is not None:
            raise ValueError("This flow cannot be guided: leave guidance out.")
        latents = sample_latents(keys, latent_shapes(shape), temperature)
        return decode(params, latents, contexts)

    return sample
