"""Opens a split of prepared records by index, as videos, and computes its fingerprint."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from flowvid.config.dataset_names import say_once
from flowvid.data import clip_records, tfds_records, video_features
from flowvid.data.record_views import Clips, Images, Relabelled
from flowvid.data.video_features import Builder, Chosen, Wanted
from flowvid.errors import DataError
from flowvid.sizes import Size

# The face in an image of celeb_a, 218 x 178: top, left and side, as in RealNVP and Glow.
_CROPS = {"celeb_a": (40, 15, 148)}
# Of the records of TFDS's datasets without splits of that name.
_VALIDATION_SHARE = _TEST_SHARE = 0.1
_ANY = Wanted()


class Records(NamedTuple):
    """The records of one split.

    Attributes:
      source: the records, by index.
      fingerprint: a short hex digest that changes when records are added, removed or reordered.
    """

    source: Sequence[dict[str, Any]]
    fingerprint: str


class _Part(NamedTuple):
    """Records `start` to `stop` of a split as it was prepared."""

    prepared: str
    start: int
    stop: int


def _parts(builder: Builder, wanted: Wanted) -> dict[str, _Part]:
    """Returns the splits of a dataset, those without records included.

    If a dataset of TFDS has no validation split, the last tenth of its training records becomes
    one and is no longer part of "train". If all of its records are in a single split that is not
    for training, the first eight tenths of them become "train", and one tenth each "validation"
    and "test".
    """
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    parts = {name: _Part(name, 0, size) for name, size in sizes.items()}
    if tfds_records.is_own(builder, wanted) or "validation" in sizes:
        return parts
    filled = [name for name, size in sizes.items() if size]
    if sizes.get("train", 0) > 1:
        total, shares = sizes["train"], {"validation": _VALIDATION_SHARE}
        whole = "train"
    elif len(filled) == 1 and filled != ["train"] and sizes[filled[0]] > 2:
        (whole,) = filled
        total, shares = sizes[whole], {"test": _TEST_SHARE, "validation": _VALIDATION_SHARE}
    else:
        return parts
    stop = total
    for name, share in shares.items():
        start = stop - max(1, round(share * total))
        parts[name] = _Part(whole, start, stop)
        stop = start
    return parts | {"train": _Part(whole, 0, stop)}


def sizes(builder: Builder, wanted: Wanted) -> dict[str, int]:
    """Returns the number of records of each split that has any."""
    return {
        name: part.stop - part.start
        for name, part in _parts(builder, wanted).items()
        if part.stop > part.start
    }


def open_records(
    builder: Builder,
    split: str,
    num_frames: int,
    image_size: Size,
    *,
    max_skipped: float = 0.5,
    wanted: Wanted = _ANY,
) -> Records:
    """Opens the records of one split as records of videos; images become videos of one frame.

    Args:
      builder: the dataset.
      split: the name of the split.
      num_frames: frames per clip, of a video dataset of TFDS.
      image_size: size of the frames, of a dataset of TFDS.
      max_skipped: the fraction of clips that may be left out because they have fewer frames, or
        because their label is not known.
      wanted: the features that are asked for.

    Raises:
      DataError: if there are none, if they are damaged, or if too many clips are left out.
    """
    parts = _parts(builder, wanted)
    part = parts.get(split)
    if part is None or part.start == part.stop:
        found = ", ".join(f"{p.stop - p.start} in {n!r}" for n, p in parts.items())
        raise DataError(
            f"{builder.name} has no examples in split {split!r}; it has {found} "
            f"({builder.data_dir})."
        )
    is_own = tfds_records.is_own(builder, wanted)
    if not is_own and not tfds_records.is_image_set(builder, wanted):
        _report_division(builder, parts, part, "clips")
        return _open_clips(builder, split, part, num_frames, image_size, max_skipped, wanted)
    _report_division(builder, parts, part, "images")
    source, described = _opened(builder, part)
    label = _name(_label(builder, wanted))
    if label != _name(_label(builder, _ANY)):
        described["label"] = label
    if not is_own:
        crop = _CROPS.get(builder.name)
        source = Images(source, image_size, crop, label, part.start)
    elif label != "label":
        source = Relabelled(source, label)
    return Records(source, _digest(described))


def _open_clips(
    builder: Builder,
    split: str,
    part: _Part,
    num_frames: int,
    image_size: Size,
    max_skipped: float,
    wanted: Wanted,
) -> Records:
    """Opens the records of a video dataset of TFDS; the arguments are those of `open_records`."""
    chosen = video_features.choose_video(builder, wanted)
    label = _label(builder, wanted)
    _report_choice(builder, "video", chosen)
    _report_choice(builder, "label", label)
    names = chosen.name, _name(label)
    source, described = _opened(builder, part, is_raw=True)
    numbers: Sequence[int] = range(len(source))
    if chosen.feature.shape[0] is None or label is not None:
        whole = _source(builder, part.prepared, is_raw=True)
        with tfds_records.damage_reported(builder.data_dir):
            found = clip_records.look_through(builder, part.prepared, whole, *names)
        numbers = clip_records.usable(
            clip_records.Found(*(values[part.start : part.stop] for values in found)),
            num_frames,
            max_skipped,
            f"{builder.name} in {builder.data_dir}, split {split!r}",
        )
    described |= {"video": names[0], "label": names[1], "clips": _digest(list(numbers))}
    clips = Clips(source, *names, num_frames, image_size, numbers=numbers, start=part.start)
    return Records(clips, _digest(described))


def _source(builder: Builder, spec: str, is_raw: bool) -> Any:
    from tensorflow_datasets import decode

    method = decode.DeserializeMethod
    return builder.as_data_source(
        spec,
        deserialize_method=method.RAW_BYTES if is_raw else method.DESERIALIZE_AND_DECODE,
    )


def _opened(builder: Builder, part: _Part, is_raw: bool = False) -> tuple[Any, dict[str, Any]]:
    """Returns the records of a part, and what the fingerprint of the part is computed from.

    Args:
      builder: the dataset.
      part: what is read of it.
      is_raw: whether records are returned as they are stored.

    Raises:
      DataError: if records are damaged.
    """
    whole = builder.info.splits[part.prepared]
    spec = part.prepared
    if part.stop - part.start < whole.num_examples:
        spec = f"{part.prepared}[{part.start}:{part.stop}]"
    with tfds_records.quiet(), tfds_records.damage_reported(builder.data_dir):
        source = _source(builder, spec, is_raw)
        # A damaged shard shows when it is opened: better now than hours into training.
        lengths = [int(length) for length in builder.info.splits[spec].shard_lengths]
        ends = [source[end - 1] for end in itertools.accumulate(filter(None, lengths))]
    config = builder.builder_config
    described = {
        "dataset": builder.name,
        "config": config.name if config else "",
        "version": str(builder.version),
        "split": spec,
        "shard_lengths": lengths,
        "num_bytes": int(whole.num_bytes),
    }
    if video_features.has_own_features(builder) and not is_raw:
        # All videos of one shape have the same number of bytes, whatever their order.
        described["last_ids"] = [record["id"].decode() for record in ends]
    return source, described


def _digest(described: Any) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def label_names(builder: Builder, wanted: Wanted = _ANY) -> tuple[str, ...]:
    """Returns the labels in the order of their indices, or a single one if records have none."""
    label = _label(builder, wanted)
    return ("unlabelled",) if label is None else tuple(label.feature.names)


def _name(chosen: Chosen | None) -> str | None:
    return None if chosen is None else chosen.name


def _label(builder: Builder, wanted: Wanted) -> Chosen | None:
    """Returns the class label; in lfw, for example, "label" is a text, and no class.

    Only in a video dataset of TFDS, one of another name than "label" is used unasked.
    """
    is_clips = not (
        tfds_records.is_image_set(builder, wanted) or tfds_records.is_own(builder, wanted)
    )
    return video_features.choose_label(builder, wanted, None if is_clips else "label")


def _report_division(builder: Builder, parts: dict[str, _Part], part: _Part, kind: str) -> None:
    """Prints which records are held out, if a part is less than a split as it was prepared."""
    total = builder.info.splits[part.prepared].num_examples
    if part.stop - part.start == total:
        return
    validation = parts["validation"].stop - parts["validation"].start
    if part.prepared == "train":
        text = (
            f"has no validation split: the last {validation} of its {total} training {kind} are "
            "held out for validation."
        )
    else:
        train, test = parts["train"].stop, total - parts["test"].start
        text = (
            f"has the split {part.prepared!r} alone: the first {train} of its {total} {kind} are "
            f"for training, the next {validation} for validation, the last {test} for testing."
        )
    say_once(f"{builder.name} in {builder.data_dir} {text}")


def _report_choice(builder: Builder, kind: str, chosen: Chosen | None) -> None:
    """Prints which feature is used, if there are others that could be."""
    if chosen is not None and chosen.others:
        others = " or ".join(chosen.others)
        say_once(
            f"{builder.name}: the {kind} is {chosen.name}; --{kind}_feature can be {others}, too."
        )
