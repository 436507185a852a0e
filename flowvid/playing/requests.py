"""What the page may ask of a run, checked as the flags of `flowvid.sample` are, and the answers."""

import base64
import functools
from collections.abc import Iterator
from typing import Any

import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8

from flowvid import fields
from flowvid.conditioning.label_names import as_shown, label_index
from flowvid.data import datasets, sources
from flowvid.errors import ConfigError, whole_number
from flowvid.video.model import Model
from flowvid.video.sampling import Frame

Answer = dict[str, Any]
Clip = UInt8[np.ndarray, "frames height width 3"]

# The browser holds all frames that it shows; `flowvid.sample` has no such limits.
MOST_VIDEOS = 64
MOST_FRAMES = 2000
FIELDS = frozenset(
    {"label", "num_videos", "num_frames", "seed", "temperature", "guidance", "clip", "num_given"}
)


class Player:
    """Answers requests to sample from a run."""

    def __init__(self, model: Model, title: str) -> None:
        """Keeps the run's model, and how the page names the run."""
        self.model, self.title = model, title

    def description(self) -> Answer:
        """Returns what the page needs to know of the run."""
        config = self.model.config
        guided = any(config.guidance(name) is not None for name in ("head", "tail"))
        has_tail = "tail" in config.models
        return {
            "title": self.title,
            "step": self.model.step,
            "labels": as_shown(self.model.label_names) if config.ablation.uses_labels else [],
            "tail_sees_label": config.sees("tail").label,
            "is_guided": guided,
            "has_tail": has_tail,
            "num_frames": config.num_frames,
            "most_frames": MOST_FRAMES if has_tail else 1,
            "most_videos": MOST_VIDEOS,
        }

    @functools.cached_property
    def _clips(self) -> datasets.Dataset:
        return sources.to_continue(self.model, 1)

    def answers(self, asked: Any) -> Iterator[Answer]:
        """Returns the answers to a request: what comes, then each frame of all videos.

        Nothing is sampled before they are asked for.

        Args:
            asked: the arguments of `Model.stream` by name, but `clip`, the number of a validation
                clip, of which the first `num_given` frames are continued (4 by default); and
                `temperature` is a text, as for --temperature. What is missing or null has its
                default.

        Raises:
            ConfigError, DataError: for a request that cannot be answered.
        """
        if not isinstance(asked, dict) or not FIELDS.issuperset(asked):
            raise ConfigError(f"a request holds some of {', '.join(sorted(FIELDS))}.")
        given = {name: value for name, value in asked.items() if value is not None}
        count = whole_number("num_videos", given.get("num_videos", 8), 1, MOST_VIDEOS)
        default = self.model.config.num_frames
        num_frames = whole_number("num_frames", given.get("num_frames", default), 1, MOST_FRAMES)
        real, num_given, of_clip = None, 0, {}
        if "clip" in given:
            real, label, num_given = self._clip(given["clip"], given.get("num_given", 4))
            first = np.broadcast_to(real[:num_given], (count, *real[:num_given].shape))
            of_clip = {"first_frames": first, "labels": np.full(count, label, np.int32)}
        elif "num_given" in given:
            raise ConfigError("num_given goes with clip: choose the clip to continue.")
        frames = self.model.stream(
            count,
            given.get("label"),
            num_frames=num_frames,
            temperature=_temperature(given.get("temperature")),
            guidance=given.get("guidance"),
            seed=given.get("seed", 0),
            **of_clip,
        )
        start = {
            "captions": self._captions(count, given.get("label"), given.get("clip")),
            "size": list(self.model.config.image_size),
            "num_frames": num_frames,
            "num_given": num_given,
        }
        return _answers(start, frames, real)

    def _clip(self, number: Any, num_given: Any) -> tuple[Clip, int, int]:
        """Returns a validation clip, its label, and how many of its frames are given."""
        number = whole_number("clip", number, 0, len(self._clips) - 1)
        example = self._clips[number]
        video = example["video"]
        num_given = whole_number("num_given", num_given, 1, len(video))
        return video, int(example["label"]), num_given

    def _captions(self, count: int, label: str | None, clip: int | None) -> list[str]:
        """Returns what stands below each video; below the real clip, too, where there is one."""
        if clip is not None:
            return [f"validation clip {clip}", *(f"continued, {i}" for i in range(count))]
        if not self.model.config.ablation.uses_labels:
            return [f"video {i}" for i in range(count)]
        names, turns = self.model.label_names, self.model.turns(count)
        shown = as_shown(names)
        return [shown[label_index(names, label or turn)] for turn in turns]


def _temperature(text: Any) -> list[float] | float | None:
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"temperature={text!r}: use a text, such as '1' or '0.8,1'.")
    return fields.numbers("temperature", None if text is None else text.split(","))


def _answers(start: Answer, frames: Iterator[Frame], real: Clip | None) -> Iterator[Answer]:
    yield start
    for number, frame in enumerate(frames):
        pixels, finite = list(frame.pixels), frame.finite.tolist()
        if real is not None:
            is_there = number < len(real)
            pixels.insert(0, real[number] if is_there else np.full_like(real[0], 255))
            finite.insert(0, True)
        strip = iio.imwrite("<bytes>", np.concatenate(pixels, axis=1), extension=".png")
        yield {"strip": base64.b64encode(strip).decode(), "finite": finite}
    yield {"done": True}
