"""Checks of a configuration that concern several of its fields."""

from typing import Any

from flowvid import fields
from flowvid.errors import ConfigError


def seed_and_average(run: Any) -> None:
    """Checks what the configurations of the flow and of the GAN have in common.

    Raises:
        ConfigError: naming the field and its possible values.
    """
    if run.ema_decay >= 1:
        raise ConfigError(f"--ema_decay={run.ema_decay} must be below 1.")
    if run.seed >= 2**32:
        raise ConfigError(f"--seed={run.seed} must be below 2^32 = {2**32}.")


def frames(config: Any) -> None:
    """Checks how many frames head and tail draw from a clip.

    Raises:
        ConfigError: naming the flag and its possible values.
    """
    drawn = config.head_frames_drawn
    if drawn > 1 and config.head_frames == "first":
        raise ConfigError(
            f"--head_frames_drawn={drawn} needs --head_frames=any: a clip has one first frame."
        )
    if drawn > config.num_frames:
        raise ConfigError(
            f"--head_frames_drawn={drawn} frames cannot be drawn from {config.num_frames}: use "
            "fewer, or more --num_frames."
        )
    if config.tail_frames is not None and config.tail_frames >= config.num_frames:
        raise ConfigError(
            f"--tail_frames={config.tail_frames} frames cannot be drawn from the "
            f"{config.num_frames - 1} that follow the first: use fewer, or more --num_frames."
        )


def crop(config: Any) -> None:
    """Checks that windows for the tail fit into frames and can be modelled beside these.

    Raises:
        ConfigError: naming the flag and its possible values.
    """
    window, size = config.tail_crop, config.image_size
    if window is None or window == size:
        return
    if any(side > whole for side, whole in zip(window, size, strict=True)):
        raise ConfigError(
            f"--tail_crop={window} is larger than --image_size={size}: use at most that."
        )
    fields.check_halvings(window, config.levels, "tail_crop")
    config.context_settings.check_crop(window, size, config.sees("tail"))
