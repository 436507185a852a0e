"""The U-Net context encoder as pure functions.

All that is seen of the frames before is computed once per frame, outside the flow. With the state,
the anchors are the next frame as the layers have it, the ground, the mean since each pixel changed,
and the last frame; without it, the last frame alone.

Dimensions: B batch, H height, W width, K context channels, A anchors.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Key, PRNGKeyArray

from flowvid.arrays import CHANNELS, Images, Labels, Params
from flowvid.conditioning.protocol import Conditioning, ContextEncoder, EncoderOptions
from flowvid.conditioning.sees import Sees
from flowvid.conditioning.unet import hindsight, network
from flowvid.conditioning.unet import layers as layering
from flowvid.conditioning.unet import memory as memories
from flowvid.conditioning.unet.dynamics import beginnings
from flowvid.conditioning.unet.layers import Layers
from flowvid.conditioning.unet.memory import Memory
from flowvid.conditioning.unet.motion import enlarged
from flowvid.conditioning.unet.settings import UnetSettings, coarseness, levels_of_layers
from flowvid.flows.protocol import Contexts, Diagnostic, Shape
from flowvid.flows.scale_and_shift import depends_on_vector

_NORMAL = nn.initializers.normal(1.0)


class _View(NamedTuple):
    """What the network sees, [B, H, W, C], and guesses at the next frame, the best one first."""

    maps: list[Array]
    anchors: list[Images]


def unet_encoder(settings: UnetSettings, options: EncoderOptions) -> ContextEncoder:
    """Returns an encoder whose maps are anchors and the features of a U-Net."""
    encoder = UnetEncoder(settings, options)
    return ContextEncoder(
        init=encoder.init,
        encode=encoder.encode,
        first_state=encoder.first_state,
        next_state=encoder.next_state,
        channels=(encoder.channels,) * options.levels,
        label_table=encoder.label_table,
        diagnostics=_no_diagnostics,
        flop=encoder.flop,
        anchors=encoder.anchors,
        auxiliary_loss=encoder.auxiliary_loss if options.sees.state else None,
        with_past=encoder.with_past if options.sees.state else None,
    )


@dataclass(frozen=True)
class UnetEncoder:
    """The functions of the encoder; `unet_encoder` makes a `ContextEncoder` of them.

    A label is seen as a learned vector. There is one more, for a label that is not told. Where the
    label alone is seen, the vector is the map of every level. With the state, it says how objects
    move on (`dynamics`); with the last frame alone, it scales and shifts the U-Net's features.
    Parameters are those of the parts that are used, of "labels", "layers" and "unet".
    """

    settings: UnetSettings
    options: EncoderOptions

    @property
    def sees(self) -> Sees:
        """What is seen."""
        return self.options.sees

    @property
    def anchors(self) -> int:
        """A."""
        return 4 if self.sees.state else int(self.sees.previous)

    @property
    def num_seen(self) -> int:
        """Channels that the U-Net sees."""
        return _STATE_CHANNELS if self.sees.state else CHANNELS * self.sees.previous

    @property
    def channels(self) -> int:
        """K; none where no frame is seen."""
        return CHANNELS * self.anchors + self.settings.features if self.num_seen else 0

    @property
    def of_label(self) -> nn.Embed:
        """The labels' vectors."""
        width = self.settings.label_width
        return nn.Embed(self.options.num_labels + 1, width, embedding_init=_NORMAL)

    @property
    def unet(self) -> network.UNet:
        """The U-Net that is seen by the flow."""
        return network.UNet(self.settings.unet_width, self.settings.features, self.options.levels)

    @property
    def layered(self) -> layering.LayerNetwork:
        """The networks of the layers."""
        size = self.options.image_size
        return layering.LayerNetwork(
            self.settings.layer_width, coarseness(size), levels_of_layers(size)
        )

    def init(self, key: PRNGKeyArray, labels: Labels, frames: Any) -> dict[str, Params]:
        """Returns the parameters of each part."""
        del frames
        label_key, layers_key, unet_key = jax.random.split(key, 3)
        params: dict[str, Params] = {}
        if self.sees.label:
            params["labels"] = self.of_label.init(label_key, labels)
        vector, size = self._vector_of(params, labels[:1]), self.options.image_size
        if self.sees.state:
            blank = memories.first_memory(jnp.zeros((1, *size, CHANNELS)))
            params["layers"] = self.layered.init(layers_key, blank, vector)
        if self.num_seen:
            blank_maps = jnp.zeros((1, *size, self.num_seen))
            params["unet"] = self.unet.init(unet_key, blank_maps, self._of_unet(vector))
        return params

    def encode(self, params: Params, conditioning: Conditioning) -> Contexts:
        """Returns the maps of each level."""
        vector = self._vector_of(params, conditioning.label)
        levels = self.options.levels
        if not self.num_seen:
            return (None if vector is None else vector[:, None, None],) * levels
        maps, guesses = self._view(params, conditioning, vector)
        seen = jnp.concatenate(maps, axis=-1)
        features: Any = self.unet.apply(params["unet"], seen, self._of_unet(vector))
        return tuple(
            jnp.concatenate(
                [*(guess[:, :: 2**level, :: 2**level] for guess in guesses), features[level]],
                axis=-1,
            )
            for level in range(levels)
        )

    def first_state(self, frame: Images) -> Memory | None:
        """Returns the state before any frame is seen."""
        return memories.first_memory(frame) if self.sees.state else None

    def next_state(self, params: Params, state: Memory | None, frame: Images) -> Memory | None:
        """Returns the state once a frame is seen."""
        del params
        return None if state is None else memories.next_memory(state, frame)

    def with_past(
        self, params: Params, keys: Key[Array, " batch"], state: Memory, labels: Labels
    ) -> Memory:
        """Returns the state once an imagined frame and after it the only one is seen.

        In the imagined frame, objects are where a motion that is drawn for each of them comes from.
        """
        vector, last = self._vector_of(params, labels), state.frames[0]
        layers = self._layers_of(params, state, vector)
        of_objects = self.layered.bind(params["layers"])
        log_odds = of_objects.log_odds(layers.objects, vector)
        # The same noise everywhere, so that the coarse pixels of an object agree.
        noise = jax.vmap(lambda key: jax.random.gumbel(key, log_odds.shape[-1:]))(keys)
        drawn = jnp.argmax(log_odds + noise[:, None, None], axis=-1)
        factor = self.layered.factor
        moved = enlarged(jnp.asarray(beginnings(factor))[drawn], factor, last.shape)
        before = layering.frame_before(layers, last, moved)
        return memories.next_memory(
            memories.next_memory(memories.first_memory(before), before), last
        )

    def auxiliary_loss(
        self,
        params: Params,
        keys: Key[Array, " batch"],
        frames: Any,
        states: Memory,
        labels: Labels,
    ) -> tuple[Array, dict[str, Array]]:
        """Returns the layers' loss by hindsight, and its parts to log."""

        def vectors(params: Params, count: int) -> Array | None:
            """Returns those of all clips, once or several times in turn."""
            vector = self._vector_of(params, labels)
            return None if vector is None else jnp.tile(vector, (count // len(frames), 1))

        def layers_of(params: Params, memory: Memory) -> Layers:
            return self._layers_of(params, memory, vectors(params, len(memory.mean)))

        def of_objects(method: str, objects: Array) -> Array:
            vector = vectors(params, len(objects))
            found: Any = self.layered.apply(params["layers"], objects, vector, method=method)
            return found

        learner = hindsight.Learner(
            layers=functools.partial(layers_of, params),
            fixed_layers=functools.partial(layers_of, lax.stop_gradient(params)),
            change=functools.partial(of_objects, "change"),
            log_odds=functools.partial(of_objects, "log_odds"),
        )
        return hindsight.hindsight_loss(learner, keys, frames, states, self.layered.factor)

    def label_table(self, params: Params) -> Any:
        """Returns the labels' vectors, without that of an untold one."""
        if not self.sees.label:
            return None
        return params["labels"]["params"]["embedding"][: self.options.num_labels]

    def flop(self, shape: Shape) -> dict[str, float]:
        """Returns the operations per frame of each part."""
        rows, columns, _ = shape
        if not self.num_seen:
            return {}
        found = {"unet": network.flop(self.unet, rows, columns, self.num_seen)}
        if self.sees.state:
            found["layers"] = layering.flop(self.layered, rows, columns)
        return found

    def _vector_of(self, params: Params, labels: Labels | None) -> Any:
        return self.of_label.apply(params["labels"], labels) if self.sees.label else None

    def _of_unet(self, vector: Array | None) -> Array | None:
        return None if self.sees.state else vector

    def _layers_of(self, params: Params, memory: Memory, vector: Array | None) -> Layers:
        found: Any = self.layered.apply(params["layers"], memory, vector)
        return found

    def _view(self, params: Params, seen: Conditioning, vector: Array | None) -> _View:
        if self.sees.state:
            of_likelihood = params | {"layers": _constant_but_for_the_label(params["layers"])}
            return _of_layers(self._layers_of(of_likelihood, seen.state, vector), seen.state)
        assert seen.previous is not None
        return _View([4 * seen.previous], [seen.previous])


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
