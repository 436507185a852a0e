"""What a run of the GAN is: one frozen dataclass, its presets, and their flags."""

import dataclasses
import json
import pathlib
from dataclasses import dataclass
from typing import Any

from flowvid import fields
from flowvid.conditioning.pyramid.settings import check_label_size
from flowvid.config.schema import check_seed_and_average
from flowvid.errors import ConfigError

OBJECTIVES = ("paper", "r1")


@dataclass(frozen=True)
class GanConfig:
    """One run. Built by `preset_config`, by `from_flags`, or read from a workdir's config.json."""

    objective: str = fields.field(
        "Model",
        "paper: the non-saturating loss alone, which did not converge in the paper; r1: with the "
        "R1 penalty (Mescheder et al. 2018) and spectral normalisation of the discriminator.",
        choices=OBJECTIVES,
    )
    preset: str = fields.field(
        "Model",
        "where the other flags' defaults come from: 64x64 and 30 frames as in the paper, which "
        "gives no other sizes; or a model that trains in minutes on two CPU cores.",
        choices=("paper", "small"),
    )
    levels: int = fields.field("Model", "maps of a pyramid below the frame; each halves the size.")
    width: int = fields.field("Model", "channels of the pyramids' maps; the frame has 3.")
    first_views: int = fields.field("Model", "View-Nets that refine the first frame.", low=0)
    noise_channels: int = fields.field("Model", "channels of the Gaussian tensor.")
    labels: bool = fields.field("Model", "generator and discriminator see the label's image.")
    label_size: int | None = fields.field(
        "Model", "height and width at which label images are learned; a frame's by default."
    )

    dataset: str = fields.field("Data", "as that of flowvid.train.")
    data_dir: str | None = fields.field("Data", "where prepared data sets are (TFDS's own).")
    max_skipped: float = fields.field(
        "Data", "share of a folder's files that may be left out when it is prepared.", low=0
    )
    num_frames: int = fields.field("Data", "frames of a clip; a step holds all of them.")
    image_size: int = fields.field("Data", "height and width; divisible by 2^levels.")

    num_steps: int = fields.field("Training", "steps in all.", low=0)
    batch_size: int = fields.field("Training", "videos a step, over all devices.")
    learning_rate: float = fields.field("Training", "Adam's, of the generator.", low=0)
    discriminator_rate: float = fields.field(
        "Training", "Adam's, of the discriminator, as a multiple of the generator's.", low=0
    )
    beta1: float = fields.field("Training", "Adam's memory of gradients.", low=0)
    r1_weight: float = fields.field(
        "Training", "gamma of gamma/2 |grad D(real)|^2, with --objective=r1.", low=0
    )
    ema_decay: float = fields.field(
        "Training",
        "of a moving average of the generator, which is then sampled from; 0: none.",
        low=0,
    )
    seed: int = fields.field("Training", "of parameters, data order and noise.", low=0)

    eval_every: int = fields.field("Reporting", "steps between previews, in <workdir>/previews.")
    checkpoint_every: int = fields.field("Reporting", "steps between checkpoints.")
    log_every: int = fields.field("Reporting", "steps between TensorBoard events.")

    num_labels: int = 0  # of the data set; known once it is loaded

    def __post_init__(self) -> None:
        """Refuses, with a reason, what cannot be trained.

        Raises:
            ConfigError: naming the field and what it may be.
        """
        fields.check(self)
        check_seed_and_average(self)
        fields.check_halvings(self.image_size, self.levels)
        check_label_size(self.label_size, self.image_size)
        if self.beta1 >= 1:
            raise ConfigError(f"--beta1={self.beta1} must be below 1.")


_SHARED = {
    "objective": "paper",
    "first_views": 2,
    "noise_channels": 3,
    "labels": False,
    "label_size": None,
    "dataset": "moving_shapes",
    "data_dir": None,
    "max_skipped": 0.5,
    "batch_size": 8,
    "learning_rate": 1e-4,
    "discriminator_rate": 4.0,
    "beta1": 0.0,
    "r1_weight": 100.0,
    "seed": 0,
}
PRESETS: fields.Presets = {
    "paper": _SHARED
    | {
        "levels": 6,  # down to a single position: what all of a frame shares comes from there
        "width": 64,
        "num_frames": 30,
        "image_size": 64,
        "num_steps": 12000,
        "ema_decay": 0.999,
        "eval_every": 1000,
        "checkpoint_every": 1000,
        "log_every": 100,
    },
    "small": _SHARED
    | {
        "levels": 5,
        "width": 16,
        "num_frames": 8,
        "image_size": 32,
        "num_steps": 2000,
        "ema_decay": 0.99,
        "eval_every": 250,
        "checkpoint_every": 250,
        "log_every": 10,
    },
}
RESUMABLE = ("data_dir", "max_skipped", "num_steps", "eval_every", "checkpoint_every", "log_every")


def preset_config(preset: str = "paper", **changes: Any) -> GanConfig:
    """The preset's configuration with some fields changed.

    Raises:
        ConfigError: for an unknown preset or a field's unusable value.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset={preset} is unknown: use one of {', '.join(PRESETS)}.")
    return GanConfig(**PRESETS[preset] | {"preset": preset} | changes)


def from_flags(saved: GanConfig | None, given: dict[str, Any]) -> GanConfig:
    """The run that the command line asks for; `saved` is the one in the workdir, if any.

    Raises:
        ConfigError: for unusable values, or when a given flag differs from the saved run's in a
            field that a run cannot change on its way.
    """
    if saved is None:
        return preset_config(**({"preset": "paper"} | given))
    fields.refuse_changes(dataclasses.asdict(saved), given, RESUMABLE)
    return dataclasses.replace(saved, **given)


def read(workdir: pathlib.Path) -> tuple[GanConfig, tuple[str, ...]]:
    """The configuration of the GAN in a workdir, and its labels' names.

    Raises:
        ConfigError: when there is none.
    """
    path = workdir / "config.json"
    try:
        saved = json.loads(path.read_text())
        names = tuple(saved.pop("label_names"))
        return GanConfig(**saved), names
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{workdir} holds no run of the GAN: train one with `python -m flowvid.gan.train "
            f"--workdir={workdir}`."
        ) from error
