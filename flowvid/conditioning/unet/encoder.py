"""The U-Net context encoder as pure functions.

All that is seen of the frames before is computed once per frame, outside the flow. With the state,
the anchors are the next frame as the layers have it, the ground, the mean since each pixel changed,
and the last frame; without it, the last frame alone.

Dimensions: B batch, H height, W width, K context channels, A anchors.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Key, PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Labels, Params
from flowvid.conditioning.protocol import Conditioning, ContextEncoder, EncoderOptions
from flowvid.conditioning.unet import hindsight, network
from flowvid.conditioning.unet import layers as layering
from flowvid.conditioning.unet import memory as memories
from flowvid.conditioning.unet.layers import Layers
from flowvid.conditioning.unet.memory import Memory
from flowvid.conditioning.unet.settings import UnetSettings, coarseness, levels_of_layers
from flowvid.flows.protocol import Contexts, Diagnostic, Shape
from flowvid.flows.scale_and_shift import depends_on_vector

_NORMAL = nn.initializers.normal(1.0)


class _View(NamedTuple):
    """What the network sees, [B, H, W, C], and guesses at the next frame, the best one first."""

    maps: list[Array]
    anchors: list[Images]


def unet_encoder(settings: UnetSettings, options: EncoderOptions) -> ContextEncoder:
    """Returns an encoder whose maps are anchors and the features of a U-Net.

    A label is seen as a learned vector. There is one more, for a label that is not told. Where the
    label alone is seen, the vector is the map of every level. With the state, it weighs fields of
    motion (`layers`); with the last frame alone, it scales and shifts the U-Net's features.
    Parameters are those of the parts that are used, of "labels", "layers" and "unet".
    """
    sees, levels = options.sees, options.levels
    anchors = 4 if sees.state else int(sees.previous)
    of_label = nn.Embed(options.num_labels + 1, settings.label_width, embedding_init=_NORMAL)
    unet = network.UNet(settings.unet_width, settings.features, levels)
    factor = coarseness(options.image_size)
    layered = layering.LayerNetwork(
        settings.layer_width, factor, levels_of_layers(options.image_size)
    )
    num_seen = _STATE_CHANNELS if sees.state else CHANNELS * sees.previous

    def of_unet(vector: Array | None) -> Array | None:
        return None if sees.state else vector

    def init(key: PRNGKeyArray, labels: Labels, frames: Any) -> dict[str, Params]:
        del frames
        label_key, layers_key, unet_key = jax.random.split(key, 3)
        params: dict[str, Params] = {}
        if sees.label:
            params["labels"] = of_label.init(label_key, labels)
        if sees.state:
            blank = memories.first_memory(jnp.zeros((1, *options.image_size, CHANNELS)))
            params["layers"] = layered.init(layers_key, blank, vector_of(params, labels[:1]))
        if num_seen:
            blank_maps = jnp.zeros((1, *options.image_size, num_seen))
            vector = of_unet(vector_of(params, labels[:1]))
            params["unet"] = unet.init(unet_key, blank_maps, vector)
        return params

    def vector_of(params: Params, labels: Labels | None) -> Any:
        return of_label.apply(params["labels"], labels) if sees.label else None

    def layers_of(params: Params, memory: Memory, vector: Array | None) -> Layers:
        found: Any = layered.apply(params["layers"], memory, vector)
        return found

    def view(params: Params, seen: Conditioning, vector: Array | None) -> _View:
        if sees.state:
            of_likelihood = params | {"layers": _constant_but_for_the_label(params["layers"])}
            return _of_layers(layers_of(of_likelihood, seen.state, vector), seen.state)
        assert seen.previous is not None
        return _View([4 * seen.previous], [seen.previous])

    def encode(params: Params, conditioning: Conditioning) -> Contexts:
        vector = vector_of(params, conditioning.label)
        if not num_seen:
            return (None if vector is None else vector[:, None, None],) * levels
        maps, guesses = view(params, conditioning, vector)
        seen = jnp.concatenate(maps, axis=-1)
        features: Any = unet.apply(params["unet"], seen, of_unet(vector))
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

    def auxiliary_loss(
        params: Params, keys: Key[Array, " batch"], frames: Any, states: Memory, labels: Labels
    ) -> tuple[Array, dict[str, Array]]:
        def vectors(params: Params, count: int) -> Array | None:
            """Returns those of all clips, once or several times in turn."""
            vector = vector_of(params, labels)
            return None if vector is None else jnp.tile(vector, (count // len(frames), 1))

        def of_memories(params: Params, memory: Memory) -> Layers:
            return layers_of(params, memory, vectors(params, len(memory.mean)))

        def change(objects: Array) -> Array:
            vector = vectors(params, len(objects))
            found: Any = layered.apply(params["layers"], objects, vector, method="change")
            return found

        learner = hindsight.Learner(
            layers=functools.partial(of_memories, params),
            fixed_layers=functools.partial(of_memories, lax.stop_gradient(params)),
            change=change,
        )
        return hindsight.hindsight_loss(learner, keys, frames, states, factor)

    def label_table(params: Params) -> Any:
        if not sees.label:
            return None
        return params["labels"]["params"]["embedding"][: options.num_labels]

    def flop(shape: Shape) -> dict[str, float]:
        rows, columns, _ = shape
        if not num_seen:
            return {}
        found = {"unet": network.flop(unet, rows, columns, num_seen)}
        if sees.state:
            found["layers"] = layering.flop(layered, rows, columns)
        return found

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
        auxiliary_loss=auxiliary_loss if sees.state else None,
    )


def _no_diagnostics(params: Params) -> dict[str, Diagnostic]:
    del params
    return {}


def _constant_but_for_the_label(params: Params) -> Params:
    """Returns the layers' parameters, where gradients reach those alone that act on the label.

    The layers learn by hindsight; with gradients of the likelihood, continuations get worse. But
    only the likelihood says how much a label may change what is expected.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if depends_on_vector(path) else lax.stop_gradient(leaf), params
    )


# Of `_of_layers`' maps: 8 images, 2 masks, 2 counts, 2 displacements.
_STATE_CHANNELS = 8 * CHANNELS + 8


def _of_layers(layers: Layers, memory: Memory) -> _View:
    """Returns what the network sees of a memory and of its layers, and the anchors."""
    last, before = memory.frames[:2]
    images = [layers.next_frame, layers.ground, last, before, memory.mean]
    images += [last - layers.ground, last - before, layers.next_frame - layers.ground]
    maps = [4 * image for image in images]
    maps += [layers.mask, layers.coverage, memory.mean_count / 16, memory.ground_count / 16]
    maps += [layers.moved, layers.moves]
    return _View(maps, [layers.next_frame, layers.ground, memory.mean, last])
