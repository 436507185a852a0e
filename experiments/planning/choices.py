"""What the flags of `experiments.plan` may be, without importing JAX."""

from collections.abc import Sequence
from typing import Any

from experiments.planning.cards import HERE
from flowvid.config.making import preset_config
from flowvid.config.schema import Config
from flowvid.errors import ConfigError

# What a step of the paper's head reaches of the speed of large products on a CPU (docs/speed.md).
# It is an assumption for GPUs, which need larger products to come as near to their peak.
EFFICIENCY = 0.74
LOADER_MB_PER_S = 372.0  # 1,010 videos per second of 30 frames at 64x64
NUM_LABELS = 339  # of Moments in Time


def config_of(given: dict[str, Any]) -> Config:
    """Returns the configuration that flags ask for, on a dataset of as many labels as Moments.

    Raises:
        ConfigError: as `preset_config`, and for the variant that is not trained.
    """
    config = preset_config(**{"num_labels": NUM_LABELS} | given)
    if not config.ablation.trains:
        raise ConfigError(f"--variant={config.variant} is not trained: use another variant.")
    return config


def efficiency(given: float | None, device: str) -> float:
    """Returns the share of a device's rates that matrix products reach, by default or as given.

    The rates of this machine are those of products of the steps' sizes, so their share is 1.
    """
    if given is not None:
        return given
    return 1.0 if device == HERE else EFFICIENCY


def models_of(names: Sequence[str], config: Config) -> list[str]:
    """Returns the models to check.

    Raises:
        ConfigError: for one that the run does not have.
    """
    if unknown := [name for name in names if name not in config.models]:
        raise ConfigError(f"--models={unknown[0]}: use some of {', '.join(config.models)}.")
    return list(names)
