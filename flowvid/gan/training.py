"""The training loop of the GAN: data, steps, previews, TensorBoard and checkpoints."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from tqdm import tqdm

from flowvid import paths
from flowvid.conditioning.label_names import as_shown
from flowvid.config import config_file
from flowvid.data import datasets, media
from flowvid.errors import ConfigError, Stopped
from flowvid.gan import steps as gan_steps
from flowvid.gan import trained
from flowvid.gan.config import GanConfig
from flowvid.gan.steps import NAMES, GanState
from flowvid.parallel.devices import on_devices, replicate, unreplicate
from flowvid.training import progress, train_state
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.training.resilience import interruption
from flowvid.training.trainer import to_devices

NUM_PREVIEWS = 8  # videos per preview


def prepare(config: GanConfig) -> tuple[GanConfig, datasets.Dataset]:
    """Returns the configuration with the number of labels, and the training split."""
    dataset = datasets.load(config.dataset, "train", **datasets.options_of(config))
    return dataclasses.replace(config, num_labels=len(dataset.label_names)), dataset


def train(config: GanConfig, workdir: str | pathlib.Path) -> GanState:
    """Trains a GAN to its last step; resumes the run if `workdir` holds one.

    Returns:
        The final state, on the host.

    Raises:
        DataError: if the dataset is missing or does not fit the configuration.
        ConfigError: if `workdir` holds a run of another configuration, or the batch cannot be
            divided evenly over the devices.
        TrainingError: if another process trains in `workdir`, or the disk is full.
        Stopped: after SIGTERM or SIGINT, once the state has been saved.
    """
    workdir = paths.expand(workdir)
    config, dataset = prepare(config)
    if config.batch_size % jax.device_count():
        raise ConfigError(
            f"--batch_size={config.batch_size} cannot be divided evenly over "
            f"{jax.device_count()} devices: use a multiple of {jax.device_count()}."
        )
    paths.output_folder(workdir, "use another --workdir")
    paths.note_files(workdir, ["previews"])
    with (
        interruption.only_one(workdir),
        interruption.StopRequest() as stop,
        Checkpoints(workdir, config, dataset.label_names) as saved,
    ):
        run = saved.restore(gan_steps.template(config))
        config_file.write(config, dataset.label_names, workdir)
        if run is None:
            run = jax.tree.map(np.asarray, jax.jit(gan_steps.create, static_argnums=0)(config))
            saved.save(run)
        else:
            print(f"Resuming {workdir} at step {int(run.step)}.", flush=True)
        for name in NAMES:
            count = train_state.num_parameters(getattr(run, name).params)
            print(f"{name}: {count:,} parameters", flush=True)
        run = _loop(config, workdir, saved, run, dataset, stop)
    if stop.received:
        raise Stopped(
            f"{stop.received.name}: stopped and saved at step {int(run.step)} of {workdir}. To "
            "resume, run the same command again.",
            stop.received,
        )
    return run


def _loop(
    config: GanConfig,
    workdir: pathlib.Path,
    saved: Checkpoints,
    run: GanState,
    dataset: datasets.Dataset,
    stop: interruption.StopRequest,
) -> GanState:
    step, first = int(run.step), int(run.step)
    train_step = on_devices(functools.partial(gan_steps.train_step, config), donate=(0,))
    batches = to_devices(
        datasets.train_batches(
            dataset,
            batch_size=config.batch_size,
            seed=config.seed,
            start=step * config.batch_size,
        )
    )
    current = replicate(run)
    bar = tqdm(total=config.num_steps, initial=step, desc="training", unit="step")
    if step < config.num_steps:
        bar.set_postfix_str("compiling")
    with progress.event_writer(workdir, step) as writer, bar:

        def due(every: int) -> bool:
            return step % every == 0 or step == config.num_steps

        while step < config.num_steps and not stop.agreed():
            current, metrics = train_step(current, next(batches))
            step += 1
            bar.update()
            if due(config.log_every) or step == first + 1:
                host = unreplicate(metrics)
                for name in NAMES:
                    for key, value in host[name].items():
                        writer.add_scalar(f"{name}/{key}", float(value), step)
                shown = {name: f"{float(host[name]['loss']):.3f}" for name in NAMES}
                bar.set_postfix(shown | {"std": f"{float(host['generator']['frame_std']):.3f}"})
                saved.check()
            if due(config.checkpoint_every):
                saved.save(unreplicate(current))
            if due(config.eval_every):
                _preview(config, workdir, unreplicate(current), dataset.label_names)
    last: GanState = unreplicate(current)
    saved.save(last)
    return last


def _preview(
    config: GanConfig, workdir: pathlib.Path, run: GanState, label_names: tuple[str, ...]
) -> None:
    """Writes a contact sheet of videos, one per row, sampled from the same noise at every step."""
    labels = np.arange(NUM_PREVIEWS) % config.num_labels
    videos = trained.sample(config, gan_steps.best_params(run), labels)
    captions = [as_shown(label_names)[i] for i in labels] if config.labels else []
    sheet = media.contact_sheet(videos, captions=captions)
    media.write_image(workdir / "previews" / f"step{int(run.step):06d}.png", sheet)
