"""The configuration of a GAN run: one frozen dataclass, its presets, and its flags."""

import dataclasses
import json
import pathlib
import shlex
from dataclasses import dataclass
from typing import Any

from flowvid import fields
from flowvid.conditioning.pyramid.settings import check_label_size
from flowvid.config import checks, config_file, dataset_names
from flowvid.errors import ConfigError
from flowvid.sizes import Size

OBJECTIVES = ("paper", "r1")


@dataclass(frozen=True)
class GanConfig:
    """The configuration of one run.

    `preset_config`, `from_flags` and `read` (from the config.json of a workdir) return one.
    """

    objective: str = fields.field(
        "Model",
        "paper: the non-saturating loss alone, which did not converge in the paper; r1: the same "
        "loss with the R1 penalty (Mescheder et al. 2018) and a spectrally normalised "
        "discriminator.",
        choices=OBJECTIVES,
    )
    preset: str = fields.field(
        "Model",
        "where the defaults of the other flags come from. paper: 64x64 and 30 frames as in the "
        "paper, which states no other sizes; small: a model that trains in minutes on two CPU "
        "cores.",
        choices=("paper", "small"),
    )
    levels: int = fields.field(
        "Model", "maps of a pyramid besides the frame; each halves the size."
    )
    width: int = fields.field("Model", "channels of a pyramid's maps; the frame has 3.")
    first_views: int = fields.field("Model", "View-Nets that refine the first frame.", low=0)
    noise_channels: int = fields.field("Model", "channels of the Gaussian tensor.")
    labels: bool = fields.field(
        "Model", "condition generator and discriminator on an image per label."
    )
    label_size: int | None = fields.field(
        "Model", "height and width of the learned label images; a frame's by default."
    )

    dataset: str = fields.field("Data", "as --dataset of flowvid.train.")
    data_dir: str | None = fields.field(
        "Data", "folder of prepared datasets; the default is TFDS's own."
    )
    max_skipped: float = fields.field(
        "Data", "share of a folder's files that may be skipped when it is prepared.", low=0
    )
    video_feature: str | None = fields.field("Data", "as --video_feature of flowvid.train.")
    label_feature: str | None = fields.field("Data", "as --label_feature of flowvid.train.")
    num_frames: int = fields.field("Data", "frames per clip; a step uses all of them.")
    image_size: int = fields.field("Data", "height and width; divisible by 2^levels.")

    num_steps: int = fields.field("Training", "number of training steps.", low=0)
    batch_size: int = fields.field("Training", "videos per step, over all devices.")
    learning_rate: float = fields.field("Training", "learning rate of the generator (Adam).", low=0)
    discriminator_rate: float = fields.field(
        "Training", "learning rate of the discriminator, as a multiple of the generator's.", low=0
    )
    beta1: float = fields.field("Training", "decay of Adam's mean of gradients; below 1.", low=0)
    r1_weight: float = fields.field(
        "Training", "gamma in gamma/2 |grad D(real)|^2, for --objective=r1.", low=0
    )
    ema_decay: float = fields.field(
        "Training",
        "decay of a moving average of the generator, which samples then come from; 0 for none.",
        low=0,
    )
    seed: int = fields.field("Training", "seed of parameters, data order and noise.", low=0)

    eval_every: int = fields.field("Reporting", "steps between previews, in <workdir>/previews.")
    checkpoint_every: int = fields.field("Reporting", "steps between checkpoints.")
    log_every: int = fields.field("Reporting", "steps between TensorBoard events.")

    num_labels: int = 0  # of the dataset; known once it is loaded

    def __post_init__(self) -> None:
        """Checks that a run with these fields can be trained.

        Raises:
            ConfigError: naming the field and its allowed values.
        """
        fields.check(self)
        checks.seed_and_average(self)
        size = Size.of(self.image_size)
        fields.check_halvings(size, self.levels)
        check_label_size(self.label_size, size)
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
    "video_feature": None,
    "label_feature": None,
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
        "levels": 6,  # down to a single position, from which all of the frame is computed
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


def preset_of_size(preset: str) -> str:
    """Returns the GAN's preset that is of the size of one of the flow's."""
    return "paper" if preset == "paper" else "small"


def preset_config(preset: str = "paper", **changes: Any) -> GanConfig:
    """Returns the configuration of a preset with some fields changed.

    Raises:
        ConfigError: for an unknown preset or an invalid value of a field.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset={preset} is unknown: use one of {', '.join(PRESETS)}.")
    return GanConfig(**PRESETS[preset] | {"preset": preset} | changes)


def from_flags(saved: GanConfig | None, given: dict[str, Any]) -> GanConfig:
    """Returns the configuration that the command line specifies.

    Args:
        saved: the configuration of the run in the workdir, or None for a new run.
        given: the flags on the command line.

    Raises:
        ConfigError: for invalid values, or if a flag differs from the saved run in a field that
            must not change when a run is resumed.
    """
    if saved is None:
        return preset_config(**({"preset": "paper"} | given))
    fields.refuse_changes(dataclasses.asdict(saved), given, RESUMABLE)
    return dataclasses.replace(saved, **given)


def read(workdir: pathlib.Path) -> tuple[GanConfig, tuple[str, ...]]:
    """Returns the configuration of the GAN in a workdir, and the names of its labels.

    Raises:
        ConfigError: if the workdir holds no run of the GAN, or one of another format version, or
            fields are missing, unknown or invalid.
    """
    path = workdir / "config.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(saved["label_names"])
        is_gan = "objective" in saved
    except (OSError, ValueError, KeyError, TypeError):
        is_gan = False
    if not is_gan:
        raise ConfigError(
            f"{workdir} holds no run of the GAN: train one with `python -m flowvid.gan.train "
            f"--workdir={shlex.quote(str(workdir))}`."
        )
    config_file.check_version(saved, path)
    saved = dataset_names.of_run(saved, workdir)
    values = {k: v for k, v in saved.items() if k not in ("label_names", "format_version")}
    try:
        return GanConfig(**config_file.LATER_FIELDS | values), names
    except (TypeError, ConfigError) as error:
        raise ConfigError(
            f"{path} is not a configuration of this version of flowvid: {error}"
        ) from error
