"""The data of each figure of the paper, as arrays by name: read off runs, or trained for it."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import av
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

import flowvid
from experiments import run_data, runs
from flowvid.config import config_file, schema
from flowvid.data import decoding
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan import model as gan_model
from flowvid.gan.config import GanConfig

REAL_CLIPS = 64  # whose statistics are drawn beside the generated ones

Arrays = dict[str, np.ndarray]


class Request(NamedTuple):
    """What a figure is to be made of."""

    folder: pathlib.Path  # for the runs that it needs
    run: pathlib.Path | None  # a finished one
    given: dict[str, Any]  # flags of `flowvid.train`, for the runs that it trains
    clip: pathlib.Path | None  # to overfit on
    images: int  # to generate
    temperature: float
    seeds: int  # of runs to compare
    jobs: int

    def finished_run(self) -> pathlib.Path:
        """The run that was given.

        Raises:
            ConfigError: when there is none.
        """
        if self.run is None:
            raise ConfigError("this figure is of a trained run: give its folder with --run.")
        return self.run


def psnr(generated: UInt8[np.ndarray, "*shape"], real: UInt8[np.ndarray, "*shape"]) -> float:
    """Peak signal-to-noise ratio in dB; inf where both are the same."""
    error = np.mean((generated.astype(float) - real) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def model_diagram(request: Request) -> Arrays:
    """Figure 1: the configuration, of the run or of the flags."""
    if request.run is not None:
        settings, labels = config_file.read(request.run)
    else:
        settings, labels = schema.preset_config(**{"num_labels": 8} | request.given), ()
    return {"config": np.array(json.dumps(config_file.to_dict(settings, labels)))}


def first_frames(request: Request) -> Arrays:
    """Figures 2 (faces, of a head that was trained on images) and 4: generated and real ones."""
    model = flowvid.load(request.finished_run())
    samples = model.sample(request.images, num_frames=1, temperature=request.temperature)
    real = run_data.clips(model.config, "validation", request.images)
    generated, finite = map(np.asarray, samples)
    return {
        "generated": generated[finite, 0],
        "real": real[:, 0],
        "temperature": np.array(request.temperature),
        "step": np.array(model.step),
    }


def label_gradient(request: Request) -> Arrays:
    """Figure 3: the gradient norm of the label images over steps, and of the whole tail."""
    curves = run_data.scalars(request.finished_run())
    wanted = {"labels": "head/gradient_norm/labels", "tail": "tail/gradient_norm"}
    if missing := [tag for tag in wanted.values() if tag not in curves]:
        raise ConfigError(f"the run has no {missing[0]}: give one of --variant=state_label.")
    return {
        f"{name}/{axis}": np.array(values)
        for name, tag in wanted.items()
        for axis, values in zip(("steps", "norm"), curves[tag], strict=True)
    }


def write_lossless(path: pathlib.Path, video: UInt8[np.ndarray, "time height width 3"]) -> None:
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


def _overfit(request: Request, num_frames: int | None, **preset: Any) -> Arrays:
    """Trains on a single clip; `num_frames` of it, all of the preset's by default.

    A fourth level leaves 2x2 positions to the last one: its Gaussian is the same at all of them, so
    that at temperature 0 what tells one from the other is lost, and contrast with it.
    """
    given: dict[str, Any] = {"preset": "small", "variant": "state", "levels": 4, "batch_size": 8}
    given |= {"learning_rate": 2e-3, "warmup_steps": 100, "log_every": 10}
    given |= preset | request.given
    if num_frames is not None:
        given["num_frames"] = num_frames
    settings = schema.preset_config(**given)
    if request.clip is not None:
        clip = decoding.read_clip(request.clip, settings.num_frames, settings.image_size)
    else:
        clip = run_data.clips(settings, "validation", 1)[0]
    folder = request.folder / "clip"
    for split in ("train", "validation"):
        write_lossless(folder / split / "clip.mkv", clip)
    train = given | {"dataset": str(folder), "data_dir": str(request.folder / "records")}
    run = runs.Run(request.folder / "run", train, evaluate=None)
    runs.carry_out([run], jobs=1)
    model = flowvid.load(run.workdir)
    generated = model.sample(1, num_frames=len(clip), temperature=0.0).videos[0]
    arrays = {
        "real": clip,
        "generated": generated,
        "psnr": np.array([psnr(a, b) for a, b in zip(generated, clip, strict=True)]),
        "metric": np.array(model.config.metric.name),
    }
    curves = run_data.scalars(run.workdir)
    for name in model.config.models:
        steps, bits = curves[f"{name}/bits_per_dim_{model.config.metric.name}"]
        arrays |= {f"{name}/steps": np.array(steps), f"{name}/bits": np.array(bits)}
    return arrays


def overfit_clip(request: Request) -> Arrays:
    """Figure 5: the first four frames of one video, overfitted, and generated at temperature 0."""
    return _overfit(request, 4, tail_frames=None, num_steps=1500)


def overfit_video(request: Request) -> Arrays:
    """Figure 8: the same with a whole video: head and tail over steps."""
    return _overfit(request, None, num_steps=1500)


def instability(request: Request) -> Arrays:
    """Figure 6: log-det, log-prob and cross entropy of several runs, clipped or not.

    The runs are asked for much (affine coupling, three times the preset's learning rate, no
    warm-up), so that steps fail; what is not finite changes nothing and is counted.
    """
    hard = {"preset": "small", "coupling": "affine", "learning_rate": 1.2e-2, "warmup_steps": 0}
    hard |= {"schedule": "constant", "num_steps": 300, "log_every": 1, "max_skips": 1_000_000}
    clips: dict[str, dict[str, Any]] = {
        "clipped": {},
        "not clipped": {"head_clip": 1e9, "tail_clip": 1e9},
    }
    planned = {
        f"{name}, seed {seed}": runs.Run(
            request.folder / f"{name.replace(' ', '_')}-seed{seed}",
            hard | request.given | changes | {"seed": seed},
            evaluate=None,
        )
        for name, changes in clips.items()
        for seed in range(request.seeds)
    }
    runs.carry_out(planned.values(), request.jobs)
    arrays: Arrays = {}
    for name, run in planned.items():
        settings, _ = config_file.read(run.workdir)
        curves = run_data.scalars(run.workdir)
        for model in settings.models:
            bits = f"bits_per_dim_{settings.metric.name}"
            for key in ("log_det_per_dim", "log_prior_per_dim", bits, "skipped"):
                steps, values = curves[f"{model}/{key}"]
                key = "bits_per_dim" if key == bits else key
                arrays[f"{model}/{name}/{key}"] = np.array(values)
            arrays[f"{model}/{name}/steps"] = np.array(steps)
        arrays["metric"] = np.array(settings.metric.name)
    return arrays


def gan(request: Request) -> Arrays:
    """Figure 7: what the GAN generates, its losses and the saturation of tanh, by objective.

    Of the flags, those that `flowvid.gan.train` has, too, change its runs.
    """
    known = {field.name for field in dataclasses.fields(GanConfig)}
    given = {name: value for name, value in request.given.items() if name in known}
    planned = {
        f"{objective}, seed {seed}": runs.Run(
            request.folder / f"{objective}-seed{seed}",
            {"preset": "small"} | given | {"objective": objective, "seed": seed},
            evaluate=None,
            module="flowvid.gan.train",
        )
        for objective in gan_config.OBJECTIVES
        for seed in range(request.seeds)
    }
    runs.carry_out(planned.values(), request.jobs)
    arrays: Arrays = {}
    for name, run in planned.items():
        for tag, (steps, values) in run_data.scalars(run.workdir).items():
            arrays[f"{name}/{tag}"] = np.array(values)
            arrays[f"{name}/steps"] = np.array(steps)
    settings, _ = gan_config.read(run.workdir)
    pixels = jnp.asarray(run_data.clips(settings, "validation", REAL_CLIPS))
    real = np.asarray(gan_model.from_pixels(pixels))
    batches = real[: len(real) // settings.batch_size * settings.batch_size]
    batches = batches.reshape(-1, settings.batch_size, *real.shape[1:])
    return arrays | {
        "real/generator/frame_mean": real.mean(),
        "real/generator/frame_std": real.std(axis=(2, 3, 4)).mean(),
        "real/generator/between_std": batches.std(axis=1).mean(),
    }


# By the number in the paper.
COLLECT: dict[str, Callable[[Request], Arrays]] = {
    "1": model_diagram,
    "2": first_frames,
    "3": label_gradient,
    "4": first_frames,
    "5": overfit_clip,
    "6": instability,
    "7": gan,
    "8": overfit_video,
}
