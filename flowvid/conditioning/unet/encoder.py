"""The U-Net context encoder as pure functions.

All that is seen of the frames before is computed once per frame, outside the flow. With the state,
the anchors are the next frame as motion has it, the same over the ground, the ground, the mean
since each pixel changed, and the last frame; without it, the last frame alone.

Dimensions: B batch, H height, W width, K context channels, A anchors.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Labels, Params
from flowvid.conditioning.protocol import Conditioning, ContextEncoder, EncoderOptions
from flowvid.conditioning.unet import memory as memories
from flowvid.conditioning.unet import network
from flowvid.conditioning.unet.memory import Memory
from flowvid.conditioning.unet.motion import moved_on
from flowvid.conditioning.unet.settings import UnetSettings
from flowvid.flows.protocol import Contexts, Diagnostic, Shape

_LABEL_CHANNELS = 8
_NORMAL = nn.initializers.normal(1.0)


class _View(NamedTuple):
    """What the network sees, [B, H, W, C], and guesses at the next frame, the best one first."""

    maps: list[Array]
    anchors: list[Images]


def unet_encoder(settings: UnetSettings, options: EncoderOptions) -> ContextEncoder:
    """Returns an encoder whose maps are anchors and the features of a U-Net.

    A label is seen as a learned vector at every pixel. Parameters are those of the parts that are
    used, of "labels" and "unet".
    """
    sees, levels = options.sees, options.levels
    anchors = 5 if sees.state else int(sees.previous)
    of_label = nn.Embed(options.num_labels, _LABEL_CHANNELS, embedding_init=_NORMAL)
    unet = network.UNet(settings.unet_width, settings.features, levels)
    num_seen = CHANNELS * sees.previous + _LABEL_CHANNELS * sees.label
    num_seen += _STATE_CHANNELS * sees.state

    def init(key: PRNGKeyArray, labels: Labels, frames: Any) -> dict[str, Params]:
        del frames
        label_key, unet_key = jax.random.split(key)
        params: dict[str, Params] = {}
        if sees.label:
            params["labels"] = of_label.init(label_key, labels)
        if num_seen:
            size = options.image_size
            params["unet"] = unet.init(unet_key, jnp.zeros((1, size, size, num_seen)))
        return params

    def view(params: Params, seen: Conditioning) -> _View:
        found = _View([], [])
        if sees.state:
            found = _of_memory(seen.state)
        elif sees.previous:
            assert seen.previous is not None
            found = _View([4 * seen.previous], [seen.previous])
        if sees.label:
            vectors: Any = of_label.apply(params["labels"], seen.label)
            size = (len(vectors), options.image_size, options.image_size, _LABEL_CHANNELS)
            found.maps.append(jnp.broadcast_to(vectors[:, None, None], size))
        return found

    def encode(params: Params, conditioning: Conditioning) -> Contexts:
        if not num_seen:
            return (None,) * levels
        maps, guesses = view(params, conditioning)
        features: Any = unet.apply(params["unet"], jnp.concatenate(maps, axis=-1))
        return tuple(
            jnp.concatenate(
                [*(guess[:, :: 2**level, :: 2**level] for guess in guesses), features[level]],
                axis=-1,
            )
            for level in range(levels)
        )

    def first_state(frame: Images) -> Memory | None:
        return memories.first_memory(frame) if sees.state else None

    def next_state(params: Params, state: Memory | None, frame: Images) -> Memory | None:
        del params
        return None if state is None else memories.next_memory(state, frame)

    def label_table(params: Params) -> Any:
        return params["labels"]["params"]["embedding"] if sees.label else None

    def flop(shape: Shape) -> dict[str, float]:
        rows, columns, _ = shape
        if not num_seen:
            return {}
        of_unet = network.flop(
            rows, columns, num_seen, settings.unet_width, settings.features, levels
        )
        return {"unet": of_unet}

    channels = CHANNELS * anchors + settings.features if num_seen else 0
    return ContextEncoder(
        init=init,
        encode=encode,
        first_state=first_state,
        next_state=next_state,
        channels=(channels,) * levels,
        label_table=label_table,
        diagnostics=_no_diagnostics,
        flop=flop,
        anchors=anchors,
    )


def _no_diagnostics(params: Params) -> dict[str, Diagnostic]:
    del params
    return {}


# Of `_of_memory`'s maps without the last frame: 8 images, 2 counts, a displacement.
_STATE_CHANNELS = 8 * CHANNELS + 4
_MOVES = 0.25  # pixels in a frame


def _of_memory(memory: Memory) -> _View:
    """Returns what the network sees of a memory, the last frame among it, and the anchors."""
    last, ground = memory.last, memory.ground
    motion, displacement = jax.lax.stop_gradient(moved_on(last, memory.before))
    moves = jnp.sum(displacement**2, axis=-1, keepdims=True) > _MOVES**2
    images = [last, memory.before, memory.before_that, ground, motion, memory.mean]
    differences = [last - ground, last - memory.before, memory.before - memory.before_that]
    maps = [4 * image for image in (*images, *differences)]
    maps += [memory.mean_count / 16, memory.ground_count / 16, displacement / 2]
    moving_over_ground = jnp.where(moves, motion, ground)
    return _View(maps, [motion, moving_over_ground, ground, memory.mean, last])
