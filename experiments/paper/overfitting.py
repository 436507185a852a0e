"""Overfits one clip, for figures 5 and 8: what the model gives back at temperature 0."""

import hashlib
import pathlib
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

import flowvid
from experiments.running import finished_runs, frame_measures, run_processes
from flowvid.config import making
from flowvid.data import decoding

Clip = UInt8[np.ndarray, "time height width 3"]

# A fourth level leaves 2x2 positions to the last one. Its Gaussian is the same at all positions, so
# that at temperature 0 whatever distinguishes them is lost, and contrast with it.
_DEFAULTS: dict[str, Any] = {
    "preset": "paper_small",
    "variant": "state",
    "levels": 4,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "warmup_steps": 100,
    "log_every": 10,
}


def write_lossless(path: pathlib.Path, video: Clip) -> None:
    """Writes a clip of which `decoding.read_clip` gives back every pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "bgr0"
        for pixels in video:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))


def folder_of(folder: pathlib.Path, clip: Clip) -> pathlib.Path:
    """Returns the folder of a clip's run, named after the clip's pixels.

    The records of another clip, and the model that was trained on them, are not used for this one.
    """
    digest = hashlib.sha256(repr(clip.shape).encode() + clip.tobytes()).hexdigest()
    return folder / f"clip-{digest[:12]}"


def overfit(
    folder: pathlib.Path, clip_file: pathlib.Path | None, given: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Trains on a single clip, and generates it again at temperature 0.

    Args:
        folder: for the run.
        clip_file: the clip; by default the first held-out one of the dataset.
        given: flags of `flowvid.train` that differ from these figures' defaults.

    Returns:
        {"real", "generated", "psnr" per frame, "metric", "head/steps", "head/bits", ...}.
    """
    given = _DEFAULTS | given
    settings = making.preset_config(**given)
    if clip_file is not None:
        clip = decoding.read_clip(clip_file, settings.num_frames, settings.image_size)
    else:
        clip = finished_runs.load_split(settings, "validation")[0]["video"]
    folder = folder_of(folder, clip)
    for split in ("train", "validation"):
        write_lossless(folder / "clip" / split / "clip.mkv", clip)
    train = given | {"dataset": str(folder / "clip"), "data_dir": str(folder / "records")}
    run = run_processes.Run(folder / "run", train, evaluate=None)
    run_processes.carry_out([run], jobs=1)
    model = flowvid.load(run.workdir)
    generated = model.sample(1, num_frames=len(clip), temperature=0.0).videos[0]
    arrays = {
        "real": clip,
        "generated": generated,
        "psnr": frame_measures.psnr(clip, generated),
        "metric": np.array(model.config.metric.name),
    }
    curves = finished_runs.scalars(run.workdir)
    for name in model.config.models:
        steps, bits = curves[f"{name}/bits_per_dim_{model.config.metric.name}"]
        arrays |= {f"{name}/steps": np.array(steps), f"{name}/bits": np.array(bits)}
    return arrays
