"""Scores clips frame by frame: the model's bits beside those of a codec, as tables and pictures.

Raw likelihood says how complex a frame is as much as how unusual: a black frame is likely under
any model. What a codec needs for the same frame, given those before it, tells the two apart.

Dimensions: T frames, H height, W width.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from flowvid.data import media
from flowvid.data.sources import Clip
from flowvid.evaluation.codecs import CODECS, encode
from flowvid.plotting import pyplot
from flowvid.video.model import Model
from flowvid.video.surprise import surprises

COLUMNS = ("bits", "codec_bits", "excess", "difference")
_BRIGHTEST = 99.9  # percentile of a clip's map that is drawn as bright as possible


class ClipScore(NamedTuple):
    """The scores of one clip's frames, and where in them bits are spent."""

    name: str
    frames: UInt8[np.ndarray, "time height width 3"]
    bits: Float[np.ndarray, " time"]  # per dimension, given the frames before
    codec_bits: Float[np.ndarray, " time"]  # those of H.264, lossless, without later frames
    difference: Float[np.ndarray, " time"]  # mean absolute one to the frame before; nan for none
    maps: Float[np.ndarray, "time height width"] | None  # bits per dimension of each pixel

    @property
    def excess(self) -> Float[np.ndarray, " time"]:
        """Bits per dimension beyond the codec's."""
        return self.bits - self.codec_bits


def score(model: Model, clip: Clip, seed: int, on_frame: Any) -> ClipScore:
    """Returns the scores of a clip.

    Args:
        model: the run's.
        clip: whose frames are read once.
        seed: of the dequantisation noise of a Glow.
        on_frame: is called after each frame.
    """
    frames: list[np.ndarray] = []

    def kept() -> Any:
        for frame in clip.frames:
            frames.append(frame)
            yield frame[None]

    found = []
    labels = jnp.array([clip.label], jnp.int32)
    for surprise in surprises(model.config, model.params, labels, kept(), seed):
        found.append(surprise)
        on_frame()
    video = np.stack(frames)
    differences = np.abs(np.diff(video.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    maps = None
    if model.config.models_bins:
        maps = np.stack([np.asarray(surprise.maps)[0] for surprise in found])
    return ClipScore(
        name=clip.name,
        frames=video,
        bits=np.array([surprise.bits[0] for surprise in found]),
        codec_bits=codec_bits(_at_depth(video, model)),
        difference=np.concatenate([[np.nan], differences]),
        maps=maps,
    )


def _at_depth(video: np.ndarray, model: Model) -> np.ndarray:
    """Returns frames with the grey values that the run's metric tells apart, as small numbers."""
    metric = model.config.metric
    return video >> (8 - metric.n_bits) if metric.floor else video


def codec_bits(video: UInt8[np.ndarray, "time height width 3"]) -> Float[np.ndarray, " time"]:
    """Returns the bits per dimension of H.264, lossless RGB, for each frame given those before."""
    (codec,) = CODECS["h264_lossless"]
    packets = encode(video, codec._replace(options=codec.options | {"bf": "0"}))
    return np.array([8 * len(codec.payload(packet)) / video[0].size for packet in packets])


def means(scores: ClipScore) -> dict[str, float]:
    """Returns the mean of each column over the frames after the first, or of a single frame."""
    later = slice(1, None) if len(scores.bits) > 1 else slice(None)
    return {column: float(np.mean(getattr(scores, column)[later])) for column in COLUMNS}


def write_tables(scores: Sequence[ClipScore], folder: Path) -> None:
    """Writes frames.csv, with a row for each frame, and clips.csv, with each clip's means."""
    with (folder / "frames.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("clip", "frame", *COLUMNS))
        for one in scores:
            for frame, values in enumerate(zip(*(getattr(one, c) for c in COLUMNS), strict=True)):
                rows.writerow((one.name, frame, *(f"{value:.5f}" for value in values)))
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("clip", "frames", *COLUMNS))
        for one in scores:
            of_clip = (f"{value:.5f}" for value in means(one).values())
            rows.writerow((one.name, len(one.bits), *of_clip))


def draw_time_line(scores: Sequence[ClipScore], path: Path) -> None:
    """Draws the bits of each clip's frames over time, above those beyond the codec's."""
    plt = pyplot()
    figure, axes = plt.subplots(2, 1, figsize=(10, 6), sharex=True)
    for one in scores:
        frames = np.arange(len(one.bits))
        axes[0].plot(frames, one.bits, label=one.name, marker="." if len(frames) == 1 else None)
        axes[1].plot(frames, one.excess, marker="." if len(frames) == 1 else None)
    axes[0].set_ylabel("bits per dimension")
    axes[0].legend(fontsize=7)
    axes[1].set(xlabel="frame", ylabel="beyond lossless H.264")
    axes[1].axhline(0, color="grey", linewidth=0.8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def overlay(scores: ClipScore) -> UInt8[np.ndarray, "time height width 3"]:
    """Returns each frame beside a dimmed one, red where bits are spent; needs maps."""
    assert scores.maps is not None
    heat = np.clip(scores.maps / max(np.percentile(scores.maps, _BRIGHTEST), 1e-6), 0, 1)
    grey = scores.frames.mean(axis=-1, keepdims=True) / 2
    red = np.concatenate(
        [np.maximum(grey, 255 * heat[..., None]), *[grey * (1 - heat)[..., None]] * 2], axis=-1
    )
    return np.concatenate([scores.frames, red.astype(np.uint8)], axis=2)


def write_overlay(scores: ClipScore, path: Path, fps: int) -> None:
    """Writes `overlay` as a video."""
    media.write_video(path, overlay(scores), fps=fps)
