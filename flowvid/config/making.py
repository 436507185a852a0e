"""Makes configurations: from a preset, from another one, and as a flat dictionary."""

import dataclasses
from typing import Any

from flowvid import fields
from flowvid.conditioning.table import CONTEXTS
from flowvid.config.presets import PRESETS
from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.flows.table import FLOWS
from flowvid.sizes import Size

_OWN = frozenset(of.name for of in dataclasses.fields(Config))
# The fields of `Config` that name an entry of a table, and the field that holds its settings.
_NESTED = {"flow": (FLOWS, "flow_settings"), "context": (CONTEXTS, "context_settings")}


def preset_config(preset: str = "paper", **changes: Any) -> Config:
    """Returns the preset's configuration with some fields changed.

    `changes` may name fields of the chosen flow and encoder beside those of `Config`, and give
    sizes as anything that `Size.of` takes. With num_frames=1 there are no frames for the tail, and
    the preset's tail_frames and tail_crop are left out, as is a tail_crop that is larger than a
    frame; head and tail draw no more frames of a clip than there are.

    Raises:
        ConfigError: for an unknown preset, a field's unusable value, or a field of another flow or
            encoder than the chosen ones.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset={preset} is unknown: use one of {', '.join(PRESETS)}.")
    values = PRESETS[preset] | {"preset": preset}
    frames = changes.get("num_frames")
    if isinstance(frames, int) and 1 <= frames < values["head_frames_drawn"]:
        values["head_frames_drawn"] = frames
    if isinstance(frames, int) and 1 <= frames <= (values["tail_frames"] or 0):
        values["tail_frames"] = frames - 1 or None
    values |= {name: value for name, value in changes.items() if name in _OWN}
    values |= sizes_of(values)
    if "tail_crop" not in changes and values["tail_crop"] is not None:
        fits = all(a <= b for a, b in zip(values["tail_crop"], values["image_size"], strict=True))
        values["tail_crop"] = values["tail_crop"] if fits and frames != 1 else None
    for kind, (table, settings_field) in _NESTED.items():
        if values[kind] in table:  # otherwise `Config` names those that are known
            settings = table[values[kind]]
            given = {n: v for n, v in changes.items() if n in settings.__dataclass_fields__}
            values[settings_field] = settings(**settings.PRESETS[preset] | given)
        else:
            fields.check_choice(kind, values[kind], tuple(table))
    config = Config(**values)
    _refuse_strangers(config, changes)
    return config


def changed(config: Config, **changes: Any) -> Config:
    """Returns a configuration with some fields changed, those of its settings among them.

    Raises:
        ConfigError: as `preset_config`.
    """
    _refuse_strangers(config, changes)
    values = {name: value for name, value in changes.items() if name in _OWN}
    values |= sizes_of(values)
    for _, settings_field in _NESTED.values():
        settings = getattr(config, settings_field)
        given = {n: v for n, v in changes.items() if n in settings.__dataclass_fields__}
        values[settings_field] = dataclasses.replace(settings, **given)
    return dataclasses.replace(config, **values)


def sizes_of(values: dict[str, Any]) -> dict[str, Size]:
    """Returns those of the fields of `Config` that are sizes, of anything that `Size.of` takes.

    Raises:
        ConfigError: for what is no size.
    """
    given = {name: values.get(name) for name in ("image_size", "tail_crop")}
    return {name: Size.of(value, name) for name, value in given.items() if value is not None}


def flat(config: Config) -> dict[str, Any]:
    """Returns all fields by name, those of the flow's and encoder's settings beside the others."""
    found = {name: getattr(config, name) for name in _OWN}
    for _, settings_field in _NESTED.values():
        found |= dataclasses.asdict(found.pop(settings_field))
    return found


def _refuse_strangers(config: Config, names: Any) -> None:
    known = flat(config)
    for name in names:
        if name in known or name in _OWN:
            continue
        for kind, (table, _) in _NESTED.items():
            owners = [key for key, s in table.items() if name in s.__dataclass_fields__]
            if owners:
                raise ConfigError(
                    f"--{name} belongs to --{kind}={' or '.join(owners)}, but this run has "
                    f"--{kind}={getattr(config, kind)}: leave --{name} out, or choose that {kind}."
                )
        raise TypeError(f"Config has no field {name!r}.")
