"""A flow in one file, as a newcomer would add it: an affine map per pixel, shifted by its context.

z = (x - mean - weight . context) exp(-log_sd), with parameters per channel. It has no levels of its
own, no 1x1 convolutions and no coupling networks.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields
from flowvid.sizes import Size


@dataclass(frozen=True)
class ToySettings(fields.Settings):
    """The settings of the toy flow, with a flag of its own."""

    toy_start: float = fields.field("Flow (toy)", "standard deviation at initialisation.", low=0)

    BINS: ClassVar[bool] = False
    GUIDANCE: ClassVar[dict[str, float] | None] = None
    PRESETS: ClassVar[fields.Presets] = {
        "paper": {"toy_start": 1.0},
        "paper_small": {"toy_start": 0.5},
        "small": {"toy_start": 0.5},
        "footage_small": {"toy_start": 0.5},
        "footage": {"toy_start": 0.5},
    }

    def check(self, image_size: Size, levels: int) -> None:
        """Any size can be modelled."""

    def temperatures(self, model: str, levels: int) -> tuple[float, ...]:
        """Returns the temperature of samples."""
        return (1.0,)

    def describe(self, model: str, shape: Any, levels: int) -> list[str]:
        """Returns what the flow does; it has no levels of its own."""
        return [f"one affine map per pixel in the {model}"]

    def build(self, options: Any) -> Any:
        """Returns the flow."""
        import jax.numpy as jnp

        from flowvid.flows.density import Density, gaussian_log_density
        from flowvid.flows.protocol import Flow, sample_by_decoding

        def shift(params, contexts):
            if contexts[0] is None:
                return params["mean"]
            return params["mean"] + contexts[0] @ params["weight"]

        def init(key, x, contexts):
            del key
            channels, seen = x.shape[-1], 0 if contexts[0] is None else contexts[0].shape[-1]
            log_sd = jnp.full((1, 1, 1, channels), jnp.log(self.toy_start))
            mean = jnp.zeros_like(log_sd)
            if options.data_dependent:
                mean = jnp.mean(x, axis=(0, 1, 2), keepdims=True)
            return {"mean": mean, "log_sd": log_sd, "weight": jnp.zeros((seen, channels))}

        def encode(params, x, contexts):
            return ((x - shift(params, contexts)) * jnp.exp(-params["log_sd"]),)

        def decode(params, latents, contexts):
            return latents[0] * jnp.exp(params["log_sd"]) + shift(params, contexts)

        def log_prob(params, x, contexts):
            pixels = x.shape[1] * x.shape[2]
            log_det = jnp.broadcast_to(-pixels * jnp.sum(params["log_sd"]), x.shape[:1])
            return Density(log_det, gaussian_log_density(encode(params, x, contexts)[0]))

        def latent_shapes(shape):
            return [shape]

        return Flow(
            init=init,
            log_prob=log_prob,
            changeable_log_prob=lambda *of: log_prob(*of).log_prob,
            encode=encode,
            decode=decode,
            sample=sample_by_decoding(decode, latent_shapes),
            log_masses=None,
            coded=None,
            latent_places=None,
            prepare=lambda params: params,
            latent_shapes=latent_shapes,
            diagnostics=lambda params: {},
            flop=lambda shape, context_channels: 2.0 * shape[0] * shape[1] * shape[2],
            activation_size=lambda shape, context_channels: shape[0] * shape[1] * shape[2],
        )
