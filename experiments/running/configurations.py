"""Compares the configurations of runs, of the flow and of the GAN."""

import dataclasses
import pathlib
from typing import Any

from flowvid.config import config_file, making, presets
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan.config import GanConfig

GAN_MODULE = "flowvid.gan.train"


def fields_of_model(config: Any) -> dict[str, Any]:
    """Returns the fields by name that decide what a run's models become.

    Left out are the fields that may change when a run is resumed, such as where the data are and
    how often to log, but for the number of steps; and the preset's name, since all its values are
    there.
    """
    if isinstance(config, GanConfig):
        values, resumable = dataclasses.asdict(config), {*gan_config.RESUMABLE}
    else:
        values, resumable = making.flat(config), {*presets.RESUMABLE}
    left_out = resumable - {"num_steps"} | {"preset", "num_labels"}
    return {name: value for name, value in values.items() if name not in left_out}


def differences(some: dict[str, Any], others: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns the fields that differ, with both values; a field that is missing is None."""
    both = {name: (some.get(name), others.get(name)) for name in sorted(some | others)}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def check_reusable(workdir: pathlib.Path, module: str, given: dict[str, Any]) -> None:
    """Checks that a folder holds no run, or one of the configuration that the flags ask for.

    `flowvid.train` takes the fields that are not given from the run in the folder. A command that
    trains its own runs would then present an older run, of other flags, as what was asked for.

    Args:
        workdir: the run's folder.
        module: that trains the run, `flowvid.train` or `flowvid.gan.train`.
        given: the flags that it will be given; all others are the preset's.

    Raises:
        ConfigError: naming the fields that differ. More training steps are no difference.
    """
    if not (workdir / "config.json").exists():
        return
    if module == GAN_MODULE:
        saved: Any = gan_config.read(workdir)[0]
        asked: Any = gan_config.preset_config(**given)
    else:
        saved = config_file.read(workdir)[0]
        # `flowvid.train` trains the head alone on a dataset of single images.
        images = {"num_frames": 1} if saved.num_frames == 1 and "num_frames" not in given else {}
        asked = making.preset_config(**given | images)
    different = differences(fields_of_model(saved), fields_of_model(asked))
    steps_there, steps_asked = different.pop("num_steps", (None, None))
    trains = isinstance(saved, GanConfig) or saved.ablation.trains
    if trains and None not in (steps_there, steps_asked) and steps_there > steps_asked:
        different["num_steps"] = (steps_there, steps_asked)
    if different:
        listed = ", ".join(
            f"--{name}={wanted} (the run has {there})"
            for name, (there, wanted) in different.items()
        )
        raise ConfigError(
            f"{workdir} holds a run of another configuration: {listed}. Give the flags that made "
            "it, use another --workdir, or remove that folder."
        )
