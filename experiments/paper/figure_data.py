"""The data of each of the paper's figures, as arrays by name, from finished or new runs."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import flowvid
from experiments.paper import overfitting
from experiments.running import configurations, finished_runs, run_processes
from flowvid.config import config_file, making
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan import model as gan_model
from flowvid.gan.config import GanConfig

REAL_CLIPS = 64  # real clips whose statistics are drawn beside those of generated ones

Arrays = dict[str, np.ndarray]


class Request(NamedTuple):
    """What a figure is made from."""

    folder: pathlib.Path  # for the runs that the figure trains
    run: pathlib.Path | None  # a finished run
    given: dict[str, Any]  # flags of `flowvid.train` for the runs that the figure trains
    clip: pathlib.Path | None  # to overfit
    images: int  # to generate
    temperature: float
    seeds: int  # of each kind of run that is compared
    jobs: int  # trainings at a time

    def finished_run(self) -> pathlib.Path:
        """Returns the folder of the finished run.

        Raises:
            ConfigError: when none is given.
        """
        if self.run is None:
            raise ConfigError("this figure shows a trained run: give its folder with --run.")
        return self.run


def model_diagram(request: Request) -> Arrays:
    """Returns figure 1's data: the configuration of the run, or that of the flags."""
    if request.run is not None:
        settings, labels = config_file.read(request.run)
    else:
        settings, labels = making.preset_config(**{"num_labels": 8} | request.given), ()
    return {"config": np.array(json.dumps(config_file.to_dict(settings, labels)))}


def first_frames(request: Request) -> Arrays:
    """Returns the data of figures 2 (faces) and 4: generated and real images."""
    model = flowvid.load(request.finished_run())
    samples = model.sample(request.images, num_frames=1, temperature=request.temperature)
    held_out = finished_runs.load_split(model.config, "validation")
    real = finished_runs.first_clips(held_out, request.images)
    generated, finite = map(np.asarray, samples)
    return {
        "generated": generated[finite, 0],
        "real": real[:, 0],
        "temperature": np.array(request.temperature),
        "step": np.array(model.step),
    }


def label_gradient(request: Request) -> Arrays:
    """Returns figure 3's data: gradient norms of the label images and of the tail over steps.

    Raises:
        ConfigError: when the run has no label images.
    """
    curves = finished_runs.scalars(request.finished_run())
    wanted = {"labels": "head/gradient_norm/labels", "tail": "tail/gradient_norm"}
    if missing := [tag for tag in wanted.values() if tag not in curves]:
        raise ConfigError(f"the run has not logged {missing[0]}: use one of --variant=state_label.")
    return {
        f"{name}/{axis}": np.array(values)
        for name, tag in wanted.items()
        for axis, values in zip(("steps", "norm"), curves[tag], strict=True)
    }


def overfitted_clip(request: Request) -> Arrays:
    """Returns figure 5's data: the first four frames of one video, overfitted by the model."""
    return overfitting.overfit(
        request.folder,
        request.clip,
        {"num_steps": 1500, "tail_frames": None} | request.given | {"num_frames": 4},
    )


def overfitted_video(request: Request) -> Arrays:
    """Returns figure 8's data: the same for a whole video."""
    return overfitting.overfit(request.folder, request.clip, {"num_steps": 1500} | request.given)


def instability(request: Request) -> Arrays:
    """Returns figure 6's data: log-det, log-prob and cross entropy of clipped and unclipped runs.

    The runs are hard to train (affine coupling, three times the preset's learning rate, no
    warm-up), so that some steps have a non-finite loss; these are skipped and counted.
    """
    hard = {
        "preset": "paper_small",
        "coupling": "affine",
        "learning_rate": 1.2e-2,
        "warmup_steps": 0,
    }
    hard |= {"schedule": "constant", "num_steps": 300, "log_every": 1, "max_skips": 1_000_000}
    clips: dict[str, dict[str, Any]] = {
        "clipped": {},
        "not clipped": {"head_clip": 1e9, "tail_clip": 1e9},
    }
    planned = {
        f"{name}, seed {seed}": run_processes.Run(
            request.folder / f"{name.replace(' ', '_')}-seed{seed}",
            hard | request.given | changes | {"seed": seed},
            evaluate=None,
        )
        for name, changes in clips.items()
        for seed in range(request.seeds)
    }
    run_processes.carry_out(planned.values(), request.jobs)
    arrays: Arrays = {}
    for name, run in planned.items():
        settings, _ = config_file.read(run.workdir)
        curves = finished_runs.scalars(run.workdir)
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
    """Returns figure 7's data: the GAN's samples in numbers, its losses and saturated tanh.

    The flags that `flowvid.gan.train` has, too, are given to its runs.
    """
    known = {field.name for field in dataclasses.fields(GanConfig)}
    given = {name: value for name, value in request.given.items() if name in known}
    given["preset"] = gan_config.preset_of_size(given.get("preset", "small"))
    planned = {
        f"{objective}, seed {seed}": run_processes.Run(
            request.folder / f"{objective}-seed{seed}",
            given | {"objective": objective, "seed": seed},
            evaluate=None,
            module=configurations.GAN_MODULE,
        )
        for objective in gan_config.OBJECTIVES
        for seed in range(request.seeds)
    }
    run_processes.carry_out(planned.values(), request.jobs)
    arrays: Arrays = {}
    for name, run in planned.items():
        for tag, (steps, values) in finished_runs.scalars(run.workdir).items():
            arrays[f"{name}/{tag}"] = np.array(values)
            arrays[f"{name}/steps"] = np.array(steps)
    settings, _ = gan_config.read(run.workdir)
    held_out = finished_runs.load_split(settings, "validation")
    clips = finished_runs.first_clips(held_out, REAL_CLIPS)
    real = np.asarray(gan_model.from_pixels(jnp.asarray(clips)))
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
    "5": overfitted_clip,
    "6": instability,
    "7": gan,
    "8": overfitted_video,
}
