"""What a run is: one frozen dataclass, the table of variants, the presets, and their flags.

Every field of `Config` that carries a help text is a flag of `flowvid.train`; flags are read
nowhere else.
"""

import dataclasses
import json
import pathlib
from dataclasses import dataclass
from typing import Any

from absl import flags

from flowvid import fields
from flowvid.errors import ConfigError
from flowvid.likelihood import METRICS, Metric


@dataclass(frozen=True)
class Variant:
    """A row of the paper's ablation (section VII, Table I)."""

    trains: bool  # otherwise ActNorm stays the identity and nothing is updated
    previous_frame: bool  # the tail sees the previous frame
    state: bool  # the tail sees the context processor's state
    labels: bool  # the head sees the label's learned image


VARIANTS = {
    "init": Variant(trains=False, previous_frame=False, state=False, labels=False),
    "prev_frame": Variant(trains=True, previous_frame=True, state=False, labels=False),
    "state": Variant(trains=True, previous_frame=True, state=True, labels=False),
    "state_label": Variant(trains=True, previous_frame=True, state=True, labels=True),
}


def check_sizes_and_seed(run: Any) -> None:
    """Checks what runs of the flow and of the GAN have in common.

    Raises:
        ConfigError: naming the field and what it may be.
    """
    if run.ema_decay >= 1:
        raise ConfigError(f"--ema_decay={run.ema_decay} must be below 1.")
    if run.seed >= 2**32:
        raise ConfigError(f"--seed={run.seed} must be below 2^32 = {2**32}.")
    if run.image_size % 2**run.levels:
        raise ConfigError(
            f"--image_size={run.image_size} must be divisible by 2^levels = {2**run.levels}, "
            f"because each of the {run.levels} levels halves it: use a multiple of "
            f"{2**run.levels}, or fewer --levels."
        )
    if run.image_size % (run.label_size or 1):
        raise ConfigError(
            f"--image_size={run.image_size} must be divisible by "
            f"--label_size={run.label_size}, because label images are enlarged to it."
        )


@dataclass(frozen=True)
class Config:
    """One run. Built by `preset_config`, by `from_flags`, or read from a workdir's config.json."""

    variant: str = fields.field(
        "Model", "which row of the ablation to train.", choices=tuple(VARIANTS)
    )
    preset: str = fields.field(
        "Model",
        "where the other flags' defaults come from: the paper's appendix, or a model that trains "
        "in minutes on two CPU cores.",
        choices=("paper", "small"),
    )
    levels: int = fields.field("Model", "levels of each Glow; each halves the resolution.")
    head_steps: int = fields.field("Model", "steps of flow a level in the head.")
    tail_steps: int = fields.field("Model", "steps of flow a level in the tail.")
    width: int = fields.field("Model", "channels inside the coupling networks.")
    state_size: int = fields.field(
        "Model", "channels of the state that the context processor carries."
    )
    coupling: str = fields.field("Model", "kind of coupling.", choices=("additive", "affine"))
    label_size: int | None = fields.field(
        "Model",
        "height and width at which label images are learned, before they are enlarged; as large as "
        "a frame by default, as in the paper; smaller where there are few clips a label.",
    )
    label_scale: float = fields.field(
        "Model", "standard deviation of the label images at their start; 1 in the paper.", low=0
    )

    dataset: str = fields.field(
        "Data",
        "moving_shapes, moving_digits, moments_in_time[/config], celeb_a, what else TFDS has "
        "prepared, or a path: a folder or zip file of clips or images, or a folder of records.",
    )
    data_dir: str | None = fields.field(
        "Data", "where prepared data sets are (TFDS's own by default)."
    )
    max_skipped: float = fields.field(
        "Data", "share of a folder's files that may be left out when it is prepared.", low=0
    )
    num_frames: int = fields.field(
        "Data",
        "frames of a clip, the first one included; 1, the default where the data set holds single "
        "images: the head alone is trained, on images or first frames.",
    )
    image_size: int = fields.field("Data", "height and width of a frame; divisible by 2^levels.")
    n_bits: int = fields.field("Data", "bits a pixel and channel that the model sees: 5 or 8.")
    dequantization: str = fields.field(
        "Data",
        "floor: pixels floored to n_bits, so that bits per dimension bound those of the image; "
        "paper: not floored, as in the paper's code.",
        choices=("floor", "paper"),
    )

    num_steps: int | None = fields.field(
        "Training", "steps in all; one pass over the data by default.", low=0
    )
    batch_size: int = fields.field("Training", "videos a step, over all devices.")
    tail_frames: int | None = fields.field(
        "Training", "frames drawn from each clip for the tail's step; all of them by default."
    )
    learning_rate: float = fields.field("Training", "Adam's.", low=0)
    warmup_steps: int = fields.field("Training", "steps in which the learning rate rises.", low=0)
    schedule: str = fields.field(
        "Training",
        "learning rate after the warm-up: constant, or a cosine to zero at num_steps (a run that "
        "goes on with a larger num_steps starts on the longer cosine, higher up).",
        choices=("constant", "cosine"),
    )
    backprop: str = fields.field(
        "Training",
        "where the backward pass has the flow's activations from: stored in the forward pass, or "
        "rebuilt from the output (reversible), so that memory does not grow with the steps.",
        choices=("stored", "reversible"),
    )
    tail_chunk: int | None = fields.field(
        "Training",
        "frames that pass through the tail at once on a device; fewer take less memory; as many as "
        "fit half a gigabyte by default.",
    )
    compute_dtype: str = fields.field(
        "Training",
        "of the coupling networks; parameters, log-determinants and sums are float32 in any case.",
        choices=("float32", "bfloat16"),
    )
    head_clip: float = fields.field("Training", "largest gradient norm of the head.", low=0)
    tail_clip: float = fields.field("Training", "largest gradient norm of the tail.", low=0)
    ema_decay: float = fields.field(
        "Training",
        "of an exponential moving average of the parameters, such as 0.999, which is then what "
        "evaluate and sample use; 0: none.",
        low=0,
    )
    max_skips: int = fields.field(
        "Training",
        "steps in a row without a finite loss or gradient until the last checkpoint is restored.",
    )
    max_restores: int = fields.field(
        "Training",
        "such restores since the last checkpoint was saved until the run is given up.",
        low=0,
    )
    seed: int = fields.field("Training", "of parameters, data order and noise; below 2^32.", low=0)

    eval_every: int = fields.field("Reporting", "steps between validations.")
    eval_videos: int = fields.field("Reporting", "videos in a validation during training, at most.")
    checkpoint_every: int = fields.field(
        "Reporting", "steps between checkpoints; every validation saves one, too."
    )
    log_every: int = fields.field("Reporting", "steps between TensorBoard events.")

    num_labels: int = 0  # of the data set; known once it is loaded

    def __post_init__(self) -> None:
        """Refuses, with a reason, what cannot be trained.

        Raises:
            ConfigError: naming the field and what it may be.
        """
        fields.check(self)
        check_sizes_and_seed(self)
        if self.n_bits not in (5, 8) or (self.dequantization == "paper" and self.n_bits != 5):
            raise ConfigError(
                f"--n_bits={self.n_bits} with --dequantization={self.dequantization} is not "
                "defined: use 5 or 8 with floor, 5 with paper."
            )
        if self.tail_frames is not None and self.tail_frames >= self.num_frames:
            raise ConfigError(
                f"--tail_frames={self.tail_frames} frames cannot be drawn from the "
                f"{self.num_frames - 1} that follow the first: use fewer, or more --num_frames."
            )

    @property
    def conditioning(self) -> Variant:
        """What the models see."""
        return VARIANTS[self.variant]

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the run has: without later frames there is no tail."""
        return ("head", "tail") if self.num_frames > 1 else ("head",)

    @property
    def metric(self) -> Metric:
        """How the model's own pixels are dequantised."""
        return METRICS["paper" if self.dequantization == "paper" else f"{self.n_bits}-bit"]


_SHARED = {
    "variant": "prev_frame",
    "state_size": 16,
    "coupling": "additive",
    "label_size": None,
    "label_scale": 1.0,
    "dataset": "moving_shapes",
    "data_dir": None,
    "max_skipped": 0.5,
    "num_frames": 30,
    "n_bits": 5,
    "dequantization": "floor",
    "backprop": "stored",
    "tail_chunk": None,
    "compute_dtype": "float32",
    "head_clip": 50.0,
    "tail_clip": 5.0,
    "ema_decay": 0.0,
    "max_skips": 5,
    "max_restores": 3,
    "seed": 0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _SHARED  # the paper's appendix
    | {
        "levels": 4,
        "head_steps": 32,
        "tail_steps": 1,
        "width": 512,
        "image_size": 64,
        "num_steps": None,
        "batch_size": 8,
        "tail_frames": None,
        "learning_rate": 1e-4,
        "warmup_steps": 0,
        "schedule": "constant",
        "eval_every": 1000,
        "eval_videos": 64,
        "checkpoint_every": 1000,
        "log_every": 100,
    },
    "small": _SHARED
    | {
        "levels": 3,
        "head_steps": 6,
        "tail_steps": 4,
        "width": 96,
        "state_size": 8,
        "image_size": 32,
        "num_steps": 2000,
        "batch_size": 16,
        "tail_frames": 2,
        "learning_rate": 4e-3,
        "warmup_steps": 50,
        "schedule": "cosine",
        "eval_every": 250,
        "eval_videos": 32,
        "checkpoint_every": 250,
        "log_every": 20,
    },
}
# What may change when a run goes on: where data are, how long to train, how often to report, and
# in how much memory.
RESUMABLE = (
    "backprop",
    "tail_chunk",
    "data_dir",
    "max_skipped",
    "num_steps",
    "max_skips",
    "max_restores",
    "eval_every",
    "eval_videos",
    "checkpoint_every",
    "log_every",
)


# What a run is that was begun before these fields were there.
_BEFORE: dict[str, Any] = {"label_size": None, "label_scale": 1.0}


def preset_config(preset: str = "paper", **changes: Any) -> Config:
    """The preset's configuration with some fields changed.

    With one frame there are none to draw for the tail: the preset's tail_frames is left out.

    Raises:
        ConfigError: for an unknown preset or a field's unusable value.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset={preset} is unknown: use one of {', '.join(PRESETS)}.")
    values = PRESETS[preset] | {"preset": preset}
    if changes.get("num_frames") == 1:
        values["tail_frames"] = None
    return Config(**values | changes)


def define_flags() -> None:
    """Defines a flag for every field of `Config`; call it where an entry point is imported."""
    flags.disclaim_key_flags()
    fields.define_flags(Config, PRESETS)


def flags_given() -> dict[str, Any]:
    """The fields of `Config` that the command line sets."""
    return fields.given(Config)


def from_flags(saved: Config | None, given: dict[str, Any]) -> Config:
    """The run that the command line asks for; `saved` is the one in the workdir, if any.

    A new run takes what is not given from the preset. One that goes on takes it from the saved
    configuration, so that the workdir alone is enough.

    Raises:
        ConfigError: for unusable values, or when a given flag differs from the saved run's in a
            field that a run cannot change on its way; the message names every such field.
    """
    if given.get("variant") == "init" and given.get("num_steps"):
        raise ConfigError(
            f"--num_steps={given['num_steps']} with --variant=init: that variant is not trained; "
            "leave --num_steps out."
        )
    if saved is None:
        return preset_config(**({"preset": "paper"} | given))
    fields.refuse_changes(saved, given, RESUMABLE)
    return dataclasses.replace(saved, **given)


def to_dict(config: Any, label_names: tuple[str, ...]) -> dict[str, Any]:
    """What config.json and every checkpoint say of a run: its fields and its labels, in order."""
    return dataclasses.asdict(config) | {"label_names": list(label_names)}


def from_dict(saved: Any) -> tuple[Config, tuple[str, ...]]:
    """The configuration and the labels' names that `to_dict` made `saved` of, or once did.

    Raises:
        ConfigError: when fields are missing, unknown or unusable.
    """
    try:
        known = {name: value for name, value in saved.items() if name != "label_names"}
        return Config(**_BEFORE | known), tuple(saved["label_names"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"no configuration of this version of flowvid: {error}") from error


def differences(some: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """The fields of two `to_dict`s that differ and that no run can change on its way."""
    some, others = _BEFORE | some, _BEFORE | others
    names = [name for name in some | others if name not in RESUMABLE]
    return [name for name in names if some.get(name) != others.get(name)]


def write(config: Any, label_names: tuple[str, ...], workdir: pathlib.Path) -> None:
    """Writes `workdir`/config.json, in one move."""
    text = json.dumps(to_dict(config, label_names), indent=2)
    temporary = workdir / "config.json.tmp"
    temporary.write_text(text + "\n")
    temporary.replace(workdir / "config.json")


def read(workdir: pathlib.Path) -> tuple[Config, tuple[str, ...]]:
    """Reads what `write` wrote.

    Raises:
        ConfigError: when it cannot be used.
    """
    path = workdir / "config.json"
    try:
        saved = json.loads(path.read_text())
        if not (isinstance(saved, dict) and "objective" in saved):
            return from_dict(saved)
    except ValueError as error:  # ConfigErrors among them
        raise ConfigError(
            f"{path} cannot be read as a run's configuration: {error}. If the run has checkpoints, "
            "delete this file: they hold it, too."
        ) from error
    raise ConfigError(
        f"{workdir} holds a run of the GAN: `python -m flowvid.gan.sample` samples from it and "
        "`python -m experiments.compare` compares it."
    )


def define_distributed_flags() -> None:
    """Defines the flags by which several processes find each other."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Devices: several processes, one a host, as one run; TPU pods and SLURM need no more than "
        "this.",
    )
    flags.DEFINE_string(
        "coordinator", None, "Devices: host:port of the first process, elsewhere. [found]"
    )
    flags.DEFINE_integer("num_processes", None, "Devices: how many there are, elsewhere. [found]")
    flags.DEFINE_integer(
        "process_id", None, "Devices: which of them this is, from 0, elsewhere. [found]"
    )


def distributed_flags() -> tuple[str | None, int | None, int | None] | None:
    """The arguments of `flowvid.distributed.start`, or None for a single process.

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
