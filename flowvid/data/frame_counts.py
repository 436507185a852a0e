"""Counts the frames of clips whose number differs, once, and says which clips are long enough."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flowvid import paths
from flowvid.config.dataset_names import say_once
from flowvid.data.record_views import parse
from flowvid.data.video_features import Builder
from flowvid.errors import DataError


def count(builder: Builder, split: str, source: Sequence[bytes], video_name: str) -> list[int]:
    """Returns the number of frames of each clip of a split, without decoding any.

    The numbers are kept in a file beside the records, because all of these must be read for them.

    Args:
      builder: the dataset.
      split: the name of a split as it was prepared.
      source: all of its records as they are stored.
      video_name: the name of the video.
    """
    info = builder.info.splits[split]
    described = {
        "shard_lengths": [int(length) for length in info.shard_lengths],
        "num_bytes": int(info.num_bytes),
    }
    name = video_name.replace("/", ".")
    path = Path(builder.data_dir) / f"frame-counts-{split}-{name}.json"
    kept = _read(path)
    if kept.get("of") == described:
        return kept["frames"]
    indices = tqdm(range(len(source)), desc=f"Counting frames of {split}", unit="clip", delay=1)
    frames = [len(parse(source[index])[video_name].bytes_list.value) for index in indices]
    try:
        with paths.whole_file(path) as file:
            file.write(json.dumps({"of": described, "frames": frames}).encode())
    except OSError as error:
        say_once(f"{path} cannot be written ({error.strerror}): frames are counted each time.")
    return frames


def _read(path: Path) -> dict[str, Any]:
    """Returns what `count` has kept; nothing if there is none, or if it is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def long_enough(
    frames: Sequence[int], num_frames: int, max_skipped: float, described: str
) -> list[int]:
    """Returns the indices of the clips with enough frames; a line says how many are left out.

    Args:
      frames: the number of frames of each clip.
      num_frames: how many are enough.
      max_skipped: the fraction of clips that may be left out.
      described: the dataset and split, for the messages.

    Raises:
      DataError: if no clip is long enough, or if more are left out than may be.
    """
    counts = np.asarray(frames)
    found = np.flatnonzero(counts >= num_frames).tolist()
    left_out = len(frames) - len(found)
    shorter = f"{left_out} of {len(frames)} clips have fewer than {num_frames} frames"
    if not found:
        raise DataError(
            f"{described}: no clip has {num_frames} frames; use at most "
            f"--num_frames={counts.max()}, the length of the longest."
        )
    if left_out > max_skipped * len(frames):
        allowed = int(np.quantile(counts, max_skipped, method="lower"))
        raise DataError(
            f"{described}: {shorter}, more than --max_skipped={max_skipped} allows: use a larger "
            f"one, or at most --num_frames={allowed}."
        )
    if left_out:
        say_once(f"{described}: {shorter} and are left out.")
    return found
