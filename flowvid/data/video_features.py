"""Finds the video and the label among the features of a dataset that TFDS has prepared.

A video is a `Video`, or images in a `Sequence`: one image per step. A label is a `ClassLabel` that
each clip has once. Features are named by their paths, such as "video" or "steps/image_main".
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from flowvid.errors import DataError, nearest_first

NO_LABEL = "none"
_OWN = ("video", "label", "id")  # features of the records of the builders in data_builders/
Builder = Any  # a tfds.core.DatasetBuilder; TFDS is imported on first use, since that takes long


class Wanted(NamedTuple):
    """The features that are asked for; where one is None or empty, it is chosen by a rule.

    Attributes:
      video: the name of a video.
      label: the name of a class label, or `NO_LABEL`.
    """

    video: str | None = None
    label: str | None = None


class Chosen(NamedTuple):
    """A feature and the names of those that could have been chosen in its place."""

    name: str
    feature: Any
    others: tuple[str, ...]


class Video(NamedTuple):
    """A video; its shape is frames, height, width, channels, each None where clips differ in it."""

    image: Any
    shape: tuple[int | None, ...]


def has_own_features(builder: Builder) -> bool:
    """Returns whether records are as the builders in data_builders/ write them.

    They are {"video": uint8[T, H, W, 3] of fixed sizes, "label": a class label, "id": a text}.
    """
    from tensorflow_datasets.core.features import FeaturesDict

    features = builder.info.features
    if not isinstance(features, FeaturesDict) or not all(name in features for name in _OWN):
        return False
    shape = features["video"].shape
    return (
        isinstance(shape, tuple)
        and len(shape) == 4
        and None not in shape
        and shape[-1] == 3
        and hasattr(features["label"], "names")
    )


def videos(builder: Builder) -> dict[str, Video]:
    """Returns the videos that can be read, by name, best first.

    Those in colour come before grey ones and maps of classes, then the one called "video" before
    others, those with "main" in their name before others, and the rest by the alphabet.
    """
    from tensorflow_datasets.core import features

    found = {
        name: Video(leaf, (lengths[0], *leaf.shape))
        for name, leaf, lengths in _leaves(builder.info.features)
        if isinstance(leaf, features.Image)
        and leaf.np_dtype == np.uint8
        and name
        and len(lengths) == 1
    }

    def rank(name: str) -> tuple[Any, ...]:
        image, is_called = found[name].image, name.split("/")[-1]
        is_grey = image.shape[-1] == 1 or image.use_colormap
        return is_grey, is_called != "video", "main" not in is_called, name

    return {name: found[name] for name in sorted(found, key=rank)}


def labels(builder: Builder) -> dict[str, Any]:
    """Returns the class labels of whole clips by name: "label" first, then by the alphabet."""
    found = {
        name: leaf
        for name, leaf, lengths in _leaves(builder.info.features)
        if getattr(leaf, "names", None) and not lengths
    }
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "label", name))}


def choose_video(builder: Builder, wanted: Wanted) -> Chosen:
    """Returns the video that is asked for, or the first of `videos`; its feature is a `Video`.

    Raises:
      DataError: if there is none; the message says what there is.
    """
    found = videos(builder)
    if wanted.video and wanted.video not in found:
        there = {*found, *(["video"] if has_own_features(builder) else ())}
        _refuse(builder, "video_feature", wanted.video, there)
    if not found:
        leaves = _leaves(builder.info.features)
        held = ", ".join(f"{name} ({type(feature).__name__})" for name, feature, _ in leaves)
        raise DataError(
            f"The records in {builder.data_dir} hold no video: their features are {held}. flowvid "
            "reads a Video or a Sequence of Images, of 8 bits; an Image called 'image'; or 'video' "
            "as a fixed [time, height, width, 3] with a ClassLabel 'label' and an 'id', as the "
            "builders in data_builders/ write them."
        )
    return _chosen(wanted.video or next(iter(found)), found)


def choose_label(builder: Builder, wanted: Wanted, only: str | None = None) -> Chosen | None:
    """Returns the class label that is asked for, or the first of `labels`; None if there is none.

    Args:
      builder: the dataset.
      wanted: the features that are asked for.
      only: the name of the one that is taken unasked; None for any.

    Raises:
      DataError: if the dataset has no such label; the message says which there are.
    """
    found = labels(builder)
    if wanted.label == NO_LABEL:
        return None
    if wanted.label and wanted.label not in found:
        _refuse(builder, "label_feature", wanted.label, {*found, NO_LABEL})
    name = wanted.label or only or next(iter(found), None)
    return _chosen(name, found) if name in found else None


def _refuse(builder: Builder, flag: str, name: str, there: Collection[str]) -> NoReturn:
    names = " or ".join(nearest_first(name, sorted(there)))
    advice = f"use {names}, or leave the flag out" if there else "leave the flag out"
    kind = flag.removesuffix("_feature")
    raise DataError(f"--{flag}={name}: {builder.name} has no {kind} of that name: {advice}.")


def _chosen(name: str, found: dict[str, Any]) -> Chosen:
    return Chosen(name, found[name], tuple(other for other in found if other != name))


def _leaves(
    feature: Any, path: tuple[str, ...] = (), lengths: tuple[int | None, ...] = ()
) -> Iterator[tuple[str, Any, tuple[int | None, ...]]]:
    """Yields features that hold no others: name, feature, lengths of the Sequences around it."""
    from tensorflow_datasets.core import features

    if isinstance(feature, features.FeaturesDict):
        for name, inner in feature.items():
            yield from _leaves(inner, (*path, name), lengths)
    elif isinstance(feature, features.Sequence):  # a Video is one, too
        yield from _leaves(feature.feature, path, (*lengths, feature._length))
    else:
        yield "/".join(path), feature, lengths
