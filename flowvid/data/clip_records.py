"""Looks through the clips of a split once, and says which are long enough and have a label.

In a `ClassLabel` of TFDS, -1 stands for a label that is not known, as in the test splits of
competitions.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from flowvid import paths
from flowvid.config.dataset_names import say_once
from flowvid.data.record_views import class_of, parse
from flowvid.data.video_features import Builder
from flowvid.errors import DataError


class Found(NamedTuple):
    """What was found of each clip of a split."""

    frames: list[int]  # their number
    labels: list[int]  # -1 where one is not known; 0 where clips have none


def look_through(
    builder: Builder, split: str, source: Sequence[bytes], video_name: str, label_name: str | None
) -> Found:
    """Returns the length and label of each clip of a split, without decoding any.

    They are kept in a file beside the records, because all of these must be read for them.

    Args:
      builder: the dataset.
      split: the name of a split as it was prepared.
      source: all of its records as they are stored.
      video_name: the name of the video.
      label_name: the name of the class label; None if there is none.
    """
    info = builder.info.splits[split]
    described = {
        "shard_lengths": [int(length) for length in info.shard_lengths],
        "num_bytes": int(info.num_bytes),
    }
    names = [split, video_name, *([] if label_name is None else [label_name])]
    path = Path(builder.data_dir) / f"clips-{'-'.join(names).replace('/', '.')}.json"
    kept = _read(path)
    if kept.get("of") == described:
        return Found(kept["frames"], kept["labels"])
    found = Found([], [])
    indices = tqdm(range(len(source)), desc=f"Looking through {split}", unit="clip", delay=1)
    for index in indices:
        example = parse(source[index])
        found.frames.append(len(example[video_name].bytes_list.value))
        found.labels.append(class_of(example, label_name))
    try:
        with paths.whole_file(path) as file:
            file.write(json.dumps({"of": described, **found._asdict()}).encode())
    except OSError as error:
        say_once(f"{path} cannot be written ({error.strerror}): clips are read through each time.")
    return found


def _read(path: Path) -> dict[str, Any]:
    """Returns what `look_through` has kept; nothing if there is none, or if it is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def usable(found: Found, num_frames: int, max_skipped: float, described: str) -> list[int]:
    """Returns the indices of the clips with a known label and enough frames.

    A line says how many are left out, and why.

    Args:
      found: of each clip.
      num_frames: how many frames are enough.
      max_skipped: the fraction of clips that may be left out for each of the two reasons.
      described: the dataset and split, for the messages.

    Raises:
      DataError: if no clip can be used, or if more are left out than may be.
    """
    labelled = _labelled(np.asarray(found.labels), max_skipped, described)
    frames = np.asarray(found.frames)[labelled]
    kept: list[int] = labelled[_long_enough(frames, num_frames, max_skipped, described)].tolist()
    return kept


def _labelled(labels: np.ndarray, max_skipped: float, described: str) -> np.ndarray:
    """Returns the indices of clips whose label is known; arguments and errors as in `usable`."""
    found = np.flatnonzero(labels >= 0)
    left_out = len(labels) - len(found)
    unknown = f"{left_out} of {len(labels)} clips have the label -1, which is an unknown one"
    if not len(found):
        raise DataError(
            f"{described}: all {len(labels)} clips have the label -1, which is an unknown one: use "
            "another split, or --label_feature=none for clips without labels."
        )
    if left_out > max_skipped * len(labels):
        raise DataError(
            f"{described}: {unknown}, more than --max_skipped={max_skipped} allows: use a larger "
            "one, or --label_feature=none for clips without labels."
        )
    if left_out:
        say_once(f"{described}: {unknown}, and are left out; --label_feature=none keeps them.")
    return found


def _long_enough(
    counts: np.ndarray, num_frames: int, max_skipped: float, described: str
) -> np.ndarray:
    """Returns the indices of clips with enough frames; arguments and errors as in `usable`."""
    found = np.flatnonzero(counts >= num_frames)
    left_out = len(counts) - len(found)
    shorter = f"{left_out} of {len(counts)} clips have fewer than {num_frames} frames"
    if not len(found):
        raise DataError(
            f"{described}: no clip has {num_frames} frames; use at most "
            f"--num_frames={counts.max()}, the length of the longest."
        )
    if left_out > max_skipped * len(counts):
        allowed = int(np.quantile(counts, max_skipped, method="lower"))
        raise DataError(
            f"{described}: {shorter}, more than --max_skipped={max_skipped} allows: use a larger "
            f"one, or at most --num_frames={allowed}."
        )
    if left_out:
        say_once(f"{described}: {shorter} and are left out.")
    return found
