"""Random valid configurations survive JSON, and their fields can be read and changed by name."""

import dataclasses
import json

from hypothesis import assume, given
from hypothesis import strategies as st

from flowvid.conditioning.table import CONTEXTS
from flowvid.config import config_file
from flowvid.config.making import changed, flat, preset_config
from flowvid.config.presets import RESUMABLE
from flowvid.config.schema import Config
from flowvid.flows.table import FLOWS
from flowvid.sizes import Size

NESTED = {"flow": (FLOWS, "flow_settings"), "context": (CONTEXTS, "context_settings")}
# Fields without a constraint that involves another field.
INDEPENDENT = (
    "data_dir", "dataset", "learning_rate", "batch_size", "schedule", "width", "coupling",
    "label_scale", "state_size", "components", "features", "head_clip", "num_steps", "log_every",
)  # fmt: skip


def own_fields(of):
    """Returns the fields of a dataclass except those that hold the settings of flow and encoder."""
    nested = [settings_field for _, settings_field in NESTED.values()]
    return [field for field in dataclasses.fields(of) if field.name not in nested]


def values_of(field):
    """Returns a strategy for the values of a field, by its type, choices and limit."""
    low = field.metadata.get("low", 0)
    if field.metadata.get("choices"):
        return st.sampled_from(field.metadata["choices"])
    values = {
        int: st.integers(low, 10**9),
        float: st.floats(low, allow_nan=False, allow_infinity=False),
        str: st.text(),
        bool: st.booleans(),
        Size: st.builds(Size, st.integers(1, 99), st.integers(1, 99)),
    }
    values |= {kind | None: st.none() | strategy for kind, strategy in values.items()}
    return values[field.type]


@st.composite
def all_fields(draw, kinds=None):
    """Draws the fields of a valid configuration, including those of its flow and encoder.

    All constraints between fields are repeated here. Configurations are made outside the strategy,
    because the run-time checks of types use random numbers, which strategies must not. `kinds` may
    fix the kinds of flow and encoder.
    """
    values = {field.name: draw(values_of(field)) for field in own_fields(Config)} | (kinds or {})
    levels = draw(st.integers(1, 6))
    size = 2**levels * draw(st.integers(1, 9))
    frames = draw(st.integers(1, 100))
    metrics = [(5, "floor"), (8, "floor"), (5, "paper")]
    n_bits, dequantization = draw(
        st.sampled_from(metrics[:2] if FLOWS[values["flow"]].BINS else metrics)
    )
    values |= {
        "levels": levels,
        "image_size": Size(size, draw(st.sampled_from([1, 2, 3])) * size),
        "num_frames": frames,
        "tail_frames": draw(st.none() | st.integers(1, frames - 1)) if frames > 1 else None,
        "n_bits": n_bits,
        "dequantization": dequantization,
        "ema_decay": draw(st.floats(0, 1, exclude_max=True)),
        "head_frames_drawn": (
            draw(st.integers(1, frames)) if values["head_frames"] == "any" else 1
        ),
        "label_dropout": (
            draw(st.floats(0, 1, exclude_max=True))
            if CONTEXTS[values["context"]].DROPS_LABELS
            else 0.0
        ),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    height, width = values["image_size"]
    fits = values["context"] == "unet" and not (height % 8 or width % 8)
    values["tail_crop"] = draw(st.none() | st.just(values["image_size"])) if fits else None
    for kind, (table, _) in NESTED.items():
        settings = table[values[kind]]
        values |= {field.name: draw(values_of(field)) for field in own_fields(settings)}
        if "head_levels" in settings.__dataclass_fields__:
            fitting = [n for n in range(1, levels + 1) if size % 2 ** (n + 2) == 0]
            assume(fitting)
            values["head_levels"] = draw(st.sampled_from(fitting))
            values["head_width"] = draw(st.integers(1, 32) | st.sampled_from([64, 256]))
        if "label_size" in settings.__dataclass_fields__:
            square = values["image_size"].width == size
            divisors = [n for n in range(1, size + 1) if size % n == 0 and square] or [None]
            values["label_size"] = draw(st.none() | st.sampled_from(divisors))
    return values


def config_with(values):
    """Returns the configuration that has these fields."""
    own = {field.name: values[field.name] for field in own_fields(Config)}
    for kind, (table, settings_field) in NESTED.items():
        settings = table[values[kind]]
        own[settings_field] = settings(**{f.name: values[f.name] for f in own_fields(settings)})
    return Config(**own)


@given(values=all_fields(), names=st.lists(st.text()))
def test_json_round_trips(values, names):
    config = config_with(values)
    saved = config_file.to_dict(config, tuple(names))
    again = config_file.from_dict(json.loads(json.dumps(saved)))
    assert again == (config, tuple(names))
    assert hash(again[0]) == hash(config)  # as static arguments of compiled functions
    assert config_file.differences(saved, config_file.to_dict(*again)) == {}


@given(values=all_fields())
def test_flat_returns_every_field(values):
    assert flat(config_with(values)) == values


@given(values=all_fields())
def test_preset_config_accepts_every_field(values):
    assert preset_config(**values) == config_with(values)


@given(values=all_fields(), data=st.data())
def test_changed_replaces_fields(values, data):
    config = config_with(values)
    assert changed(config) == changed(config, **values) == config
    # The settings stay of one class.
    others = data.draw(all_fields({kind: values[kind] for kind in NESTED}))
    assert changed(config, **others) == config_with(others)


@given(values=all_fields(), data=st.data())
def test_a_single_change_is_the_only_difference(values, data):
    name = data.draw(st.sampled_from([name for name in INDEPENDENT if name in values]))
    settings = [table[values[kind]] for kind, (table, _) in NESTED.items()]
    field = next(f for of in (Config, *settings) for f in own_fields(of) if f.name == name)
    value = data.draw(values_of(field))
    config = config_with(values)
    new = changed(config, **{name: value})
    assert flat(new) == values | {name: value}
    assert (new == config) == (value == values[name])
    found = config_file.differences(config_file.to_dict(config, ()), config_file.to_dict(new, ()))
    differs = value != values[name] and name not in RESUMABLE
    assert found == ({name: (values[name], value)} if differs else {})
