"""The command-line flags of a run, and the configuration that they ask for."""

import itertools
from typing import Any

from absl import flags

from flowvid import fields
from flowvid.conditioning.table import CONTEXTS
from flowvid.config import dataset_names
from flowvid.config.making import changed, flat, preset_config
from flowvid.config.presets import PRESETS, RESUMABLE
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.flows.table import FLOWS


def define_flags() -> None:
    """Defines the flags of `Config` and of every flow and context encoder.

    Call it where an entry point is imported.
    """
    flags.disclaim_key_flags()
    fields.define_flags(Config, PRESETS)
    for settings in itertools.chain(FLOWS.values(), CONTEXTS.values()):
        fields.define_flags(settings, settings.PRESETS)


def flags_given() -> dict[str, Any]:
    """Returns the fields that the command line sets, by name; those of all flows and encoders.

    Paths are absolute, so that they hold in any folder from which the run is used.
    """
    given = fields.given(Config)
    for settings in itertools.chain(FLOWS.values(), CONTEXTS.values()):
        given |= fields.given(settings)
    return dataset_names.absolute(given)


def from_flags(saved: Config | None, given: dict[str, Any]) -> Config:
    """Returns the configuration that the command line asks for.

    A new run takes what is not given from the preset. A resumed run takes it from its saved
    configuration, so that the workdir alone is enough.

    Args:
        saved: the configuration of the run in the workdir, if there is one.
        given: what the command line sets.

    Raises:
        ConfigError: for unusable values, or when a flag differs from the saved run in a field that
            cannot change when a run is resumed; the message names every such field.
    """
    if given.get("variant") == "init" and given.get("num_steps"):
        raise ConfigError(
            f"--num_steps={given['num_steps']} with --variant=init: that variant is not trained; "
            "leave --num_steps out."
        )
    if saved is None:
        return preset_config(**({"preset": "paper"} | given))
    fields.refuse_changes(flat(saved), given, RESUMABLE)
    return changed(saved, **given)


def define_checkpoint_flags() -> None:
    """Defines the flags that choose a run's parameters: workdir, checkpoint, average.

    They are the arguments of `flowvid.load`.
    """
    flags.disclaim_key_flags()
    fields.path_flag("workdir", None, "Run: folder of the run.", required=True)
    flags.DEFINE_string(
        "checkpoint",
        "last",
        "Run: checkpoint to use: last, best (by validation during training), or the number of a "
        "step.",
    )
    flags.DEFINE_bool(
        "average",
        True,
        "Run: use the moving average of the parameters if the run has --ema_decay.",
    )


def define_clip_flags() -> None:
    """Defines the flags that choose clips to compress or to score (`flowvid.data.sources`)."""
    fields.path_flag("clips", None, "Clips: one, an image, or a folder of them. [--split]")
    flags.DEFINE_string("label", None, "Clips: label of all of them. [not told]")
    flags.DEFINE_enum(
        "split",
        "validation",
        ["train", "validation", "test"],
        "Clips: split of the run's dataset, where --clips is not given.",
    )
    flags.DEFINE_integer("num_videos", None, "Clips: number of --split. [all]", lower_bound=1)


def define_feature_flags(default: str) -> None:
    """Defines the flags that name features of a dataset of TFDS; help says what the default is."""
    flags.disclaim_key_flags()
    flags.DEFINE_string(
        "video_feature", None, f"Feature of TFDS's dataset that holds the videos. [{default}]"
    )
    flags.DEFINE_string(
        "label_feature", None, f"Feature that holds the labels; none: no labels. [{default}]"
    )


def define_distributed_flags() -> None:
    """Defines the flags by which several processes find each other."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Devices: run as one of several processes, one per host. TPU pods, SLURM and Open MPI need "
        "no other flag.",
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "Devices: host:port of the first process, where JAX cannot find it. [found by JAX]",
    )
    flags.DEFINE_integer("num_processes", None, "Devices: number of processes. [found by JAX]")
    flags.DEFINE_integer(
        "process_id", None, "Devices: number of this process, from 0. [found by JAX]"
    )


def distributed_flags() -> tuple[str | None, int | None, int | None] | None:
    """Returns the arguments of `flowvid.parallel.processes.start`, or None for a single process.

    Raises:
        ConfigError: when they are given without --distributed.
    """
    names = ("coordinator", "num_processes", "process_id")
    coordinator, num_processes, process_id = (flags.FLAGS[name].value for name in names)
    if flags.FLAGS["distributed"].value:
        return coordinator, num_processes, process_id
    if (coordinator, num_processes, process_id) != (None, None, None):
        raise ConfigError("--coordinator, --num_processes and --process_id need --distributed.")
    return None
