"""A context encoder in one file, as a newcomer would add it: it also shows a label to the tail.

The context of every level is one map: the mean of the previous frame and of a running mean of all
frames, shifted by a learned number per label.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from flowvid import fields
from flowvid.sizes import Size


@dataclass(frozen=True)
class ToyContextSettings(fields.Settings):
    """The settings of the toy encoder, with a flag of its own."""

    toy_memory: float = fields.field("Context (toy)", "weight of the past in the mean.", low=0)

    DROPS_LABELS: ClassVar[bool] = False
    PRESETS: ClassVar[fields.Presets] = {
        name: {"toy_memory": 0.5}
        for name in ("paper", "paper_small", "small", "footage_small", "footage")
    }

    def check(self, image_size: Size, levels: int) -> None:
        """Any size can be encoded."""

    def describe(self, sees: Any) -> list[str]:
        """Returns a line for each thing that is seen."""
        return ["one map, 1 channels"] if any(sees) else []

    def check_crop(self, crop: Size, image_size: Size, sees: Any) -> None:
        """Any can be encoded."""

    def build(self, options: Any) -> Any:
        """Returns the encoder."""
        import jax.numpy as jnp
        from jax import image

        from flowvid.conditioning.protocol import ContextEncoder

        sees, size = options.sees, options.image_size

        def init(key, labels, frames):
            del key, labels, frames
            return {"labels": jnp.zeros(options.num_labels)} if sees.label else {}

        def encode(params, conditioning):
            if not any(sees):
                return (None,) * options.levels
            some = conditioning.label if sees.label else conditioning.previous
            total = jnp.zeros((len(some), *size, 1))
            if sees.label:
                total += params["labels"][conditioning.label][:, None, None, None]
            for seen in (conditioning.previous, conditioning.state):
                if seen is not None:
                    total += jnp.mean(seen, axis=-1, keepdims=True) / 2
            return tuple(
                image.resize(
                    total, (len(some), size.height >> level, size.width >> level, 1), "linear"
                )
                for level in range(options.levels)
            )

        def first_state(frame):
            return jnp.zeros_like(frame) if sees.state else None

        def next_state(params, state, frame):
            del params
            weight = self.toy_memory
            return weight * state + (1 - weight) * frame if sees.state else None

        return ContextEncoder(
            init=init,
            encode=encode,
            first_state=first_state,
            next_state=next_state,
            channels=(int(any(sees)),) * options.levels,
            label_table=lambda params: params["labels"] if sees.label else None,
            diagnostics=lambda params: {},
            flop=lambda shape: {"mean": 2.0 * shape[0] * shape[1]},
        )
