"""Continues the same held-out clips by several runs, and measures them beside the baselines."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

import flowvid
from experiments.rollout_measures.measures import (
    GENERATED,
    Rollout,
    baselines,
    check_given,
    measure,
    roll_out,
)
from experiments.running.finished_runs import load_split
from flowvid.errors import ConfigError


def compare(
    runs: Sequence[pathlib.Path],
    *,
    checkpoint: str,
    num_videos: int,
    given: int,
    samples: int,
    temperature: float | None,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Rollout]]:
    """Returns the measures of each run and baseline, and the continuations by run.

    Raises:
        ConfigError: for runs of different datasets or sizes, or clips with no frame to predict.
    """
    models = {str(run): flowvid.load(run, checkpoint=checkpoint) for run in runs}
    configs = [model.config for model in models.values()]
    what = {(config.dataset, config.image_size, config.num_frames) for config in configs}
    if len(what) > 1:
        raise ConfigError(
            "the runs differ in dataset, image size or number of frames, so they cannot continue "
            "the same clips: compare them one at a time."
        )
    split = load_split(configs[0], "validation")
    check_given(given, configs[0].num_frames)
    count = min(num_videos, len(split))
    examples = [split[index] for index in range(count)]
    clips = np.stack([example["video"] for example in examples])
    labels = np.array([example["label"] for example in examples])
    has_objects = configs[0].dataset in GENERATED
    rollouts = {
        name: roll_out(model, clips, labels, given, samples, temperature, seed)
        for name, model in tqdm(models.items(), desc="continuing clips", unit="run", leave=False)
    }
    rows = {name: measure(rollout, has_objects) for name, rollout in rollouts.items()}
    for name, still in baselines(clips, given).items():
        rows[name] = measure(Rollout(clips, still, given), has_objects)
    warmth = (
        "the flow's default temperature" if temperature is None else f"temperature {temperature}"
    )
    title = (
        f"{samples} continuations of {given} given frames, {warmth}, of {count} "
        f"clips of {split.name} {split.split}"
    )
    return {"title": title, "rows": rows}, rollouts
