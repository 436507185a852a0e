"""Configurations: the variants, what is refused and why, flags, and the file in a workdir."""

import dataclasses
import json

import pytest
from absl import flags

import flowvid
from flowvid.conditioning.pyramid.settings import PyramidSettings
from flowvid.conditioning.sees import Sees
from flowvid.config import command_line, config_file
from flowvid.config.making import changed, flat, preset_config
from flowvid.config.metrics import METRICS
from flowvid.config.presets import PRESETS
from flowvid.config.schema import Config
from flowvid.config.variants import VARIANTS, Variant
from flowvid.errors import ConfigError
from flowvid.flows.glow.settings import GlowSettings
from flowvid.sizes import Size

FLAG_FIELDS = [field for field in dataclasses.fields(Config) if field.metadata]


@pytest.fixture
def config_flags():
    """absl's flags with those of `Config` defined, and only for this test."""
    before = set(flags.FLAGS)
    command_line.define_flags()
    yield flags.FLAGS
    flags.FLAGS.unparse_flags()
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_variants_are_the_four_rows_of_the_ablation_and_one_more():
    tail = Sees(previous=True, state=True)
    assert {
        "init": Variant(trains=False, head=Sees(), tail=Sees()),
        "prev_frame": Variant(trains=True, head=Sees(), tail=Sees(previous=True)),
        "state": Variant(trains=True, head=Sees(), tail=tail),
        "state_label": Variant(trains=True, head=Sees(label=True), tail=tail),
        "label_everywhere": Variant(True, Sees(label=True), tail._replace(label=True)),
    } == VARIANTS
    assert preset_config(variant="state").ablation is VARIANTS["state"]
    assert {name: row.uses_labels for name, row in VARIANTS.items()} == {
        "init": False, "prev_frame": False, "state": False, "state_label": True,
        "label_everywhere": True,
    }  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_presets_are_valid_for_every_variant(preset, variant):
    config = preset_config(preset, variant=variant)
    assert (config.preset, config.variant) == (preset, variant)


def test_the_paper_preset_is_the_paper():
    wanted = {
        "levels": 4, "head_steps": 32, "tail_steps": 1, "width": 512, "coupling": "additive",
        "image_size": Size(64, 64), "num_frames": 30, "n_bits": 5, "batch_size": 8,
        "learning_rate": 1e-4, "warmup_steps": 0, "head_clip": 50.0, "tail_clip": 5.0,
        "num_steps": None,
        "tail_frames": None, "state_size": 16, "label_size": None, "label_scale": 1.0,
    }  # fmt: skip
    config = flat(preset_config("paper"))
    assert {name: config[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 36, "levels": 3}, "--image_size=36 .*2\\^levels = 8,.* a multiple of 8"),
        ({"n_bits": 6}, "--n_bits=6 .*use 5 or 8"),
        ({"n_bits": 8, "dequantization": "paper"}, "--n_bits=8 with --dequantization=paper .*5"),
        ({"num_frames": 5, "tail_frames": 5}, "--tail_frames=5 .* the 4 that follow"),
        ({"variant": "stat"}, "--variant=stat .*init, prev_frame, state, state_label"),
        ({"coupling": "linear"}, "--coupling=linear .*additive, affine"),
        ({"backprop": "reverse"}, "--backprop=reverse .*stored, reversible"),
        ({"compute_dtype": "float16"}, "--compute_dtype=float16 .*float32, bfloat16"),
        ({"tail_chunk": 0}, "--tail_chunk=0 must be at least 1"),
        ({"schedule": "step"}, "--schedule=step .*constant, cosine"),
        ({"dequantization": "round"}, "--dequantization=round .*floor, paper"),
        ({"levels": 0}, "--levels=0 must be at least 1"),
        ({"batch_size": 0}, "--batch_size=0 must be at least 1"),
        ({"num_frames": 0}, "--num_frames=0 must be at least 1"),
        ({"num_frames": 1, "tail_frames": 1}, "--tail_frames=1 .* the 0 that follow"),
        ({"label_size": 5}, "--image_size=32 .* --label_size=5, because label images are enlarged"),
        ({"tail_frames": 0}, "--tail_frames=0 must be at least 1"),
        ({"num_steps": -1}, "--num_steps=-1 must be at least 0"),
        ({"learning_rate": -0.1}, "--learning_rate=-0.1 must be at least 0"),
        ({"seed": -1}, "--seed=-1 must be at least 0"),
        ({"seed": 2**32}, "--seed=4294967296 must be below"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan must be a finite number"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_reason(changes, message):
    with pytest.raises(ConfigError, match=message):
        preset_config("paper_small", **changes)


def test_the_untrained_variant_takes_no_steps():
    with pytest.raises(ConfigError, match=r"--num_steps=5 with --variant=init: .* leave"):
        command_line.from_flags(None, {"variant": "init", "num_steps": 5})


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(
        ConfigError, match="--preset=large is unknown: use one of paper, paper_small, small"
    ):
        preset_config("large")


@pytest.mark.parametrize(
    ("changes", "metric"),
    [({}, "5-bit"), ({"n_bits": 8}, "8-bit"), ({"dequantization": "paper"}, "paper")],
)
def test_the_metric_follows_from_bits_and_dequantisation(changes, metric):
    assert preset_config(**changes).metric is METRICS[metric]


@pytest.mark.parametrize("preset", PRESETS)
def test_one_frame_leaves_the_head_alone(preset):
    assert preset_config(preset).models == ("head", "tail")
    config = preset_config(preset, num_frames=2, tail_frames=1)
    assert config.models == ("head", "tail")
    assert config.head_frames_drawn <= 2
    config = preset_config(preset, num_frames=1)
    assert config.models == ("head",)
    assert config.tail_frames is None


# Flags.


def test_every_field_is_a_flag_with_help_and_default(config_flags):
    assert {field.name for field in dataclasses.fields(Config)} - {
        field.name for field in FLAG_FIELDS
    } == {"num_labels", "dataset_fingerprint", "flow_settings", "context_settings"}
    nested = [*dataclasses.fields(GlowSettings), *dataclasses.fields(PyramidSettings)]
    for field in FLAG_FIELDS + nested:
        assert field.metadata["help"] in config_flags[field.name].help
        assert config_flags[field.name].help.endswith("]")  # of the default
    assert (
        "[0.0001 | paper_small: 0.004 | small, footage_small, footage: 0.002]"
        in config_flags["learning_rate"].help
    )


def test_flags_given_are_those_on_the_command_line_in_their_types(config_flags):
    config_flags(
        ["train", "--variant=state", "--tail_frames=3", "--learning_rate=1e-3", "--data_dir=/x"]
    )
    given = {"variant": "state", "tail_frames": 3, "learning_rate": 1e-3, "data_dir": "/x"}
    assert command_line.flags_given() == given


def test_a_flag_refuses_what_its_field_does_not_know(config_flags):
    with pytest.raises(flags.IllegalFlagValueError, match=r"coupling=linear.*additive\|affine"):
        config_flags(["train", "--coupling=linear"])


def test_a_new_run_takes_from_the_preset_what_is_not_given():
    given = {"preset": "paper_small", "width": 32}
    assert command_line.from_flags(None, given) == preset_config("paper_small", width=32)
    assert command_line.from_flags(None, {}) == preset_config("paper")


def test_a_run_goes_on_with_what_it_has():
    saved = preset_config("paper_small", variant="state", width=32, num_labels=8)
    assert command_line.from_flags(saved, {}) == saved
    assert command_line.from_flags(saved, {"preset": "paper_small", "width": 32}) == saved


def test_a_run_may_become_longer_and_report_otherwise():
    saved = preset_config("paper_small", num_steps=100)
    given = {"num_steps": 200, "eval_every": 7, "log_every": 3, "data_dir": "/elsewhere"}
    assert command_line.from_flags(saved, given) == changed(saved, **given)


def test_a_run_may_go_on_in_other_memory():
    saved = preset_config("paper_small", num_labels=8)
    given = {"backprop": "reversible", "tail_chunk": 4}
    assert (saved.backprop, saved.tail_chunk) == ("stored", None)
    config = command_line.from_flags(saved, given)
    assert config == changed(saved, **given)
    assert command_line.from_flags(config, {"backprop": "stored"}).tail_chunk == 4
    fields = [config_file.to_dict(c, ()) for c in (saved, config)]
    assert config_file.differences(*fields) == {}


def test_a_run_keeps_its_compute_dtype():
    saved = preset_config("paper_small")
    assert saved.compute_dtype == "float32"
    with pytest.raises(ConfigError, match=r"--compute_dtype=bfloat16 \(the run has float32\);"):
        command_line.from_flags(saved, {"compute_dtype": "bfloat16", "tail_chunk": 4})
    rough = preset_config("paper_small", compute_dtype="bfloat16")
    fields = [config_file.to_dict(c, ()) for c in (saved, rough)]
    assert config_file.differences(*fields) == {"compute_dtype": ("float32", "bfloat16")}


def test_another_configuration_names_every_field_that_differs():
    saved = preset_config("paper_small", width=32, seed=1)
    with pytest.raises(ConfigError) as caught:
        command_line.from_flags(saved, {"width": 64, "seed": 2, "levels": 3, "num_steps": 5})
    message = str(caught.value)
    assert "--width=64 (the run has 32), --seed=2 (the run has 1);" in message
    assert "another --workdir" in message
    assert "levels" not in message
    assert "num_steps" not in message


# The file in a workdir.


def test_what_is_written_is_read(tmp_path):
    config = preset_config("paper_small", variant="state_label", data_dir="/data", num_labels=2)
    config_file.write(config, ("bounce", "roll"), tmp_path)
    assert config_file.read(tmp_path) == (config, ("bounce", "roll"))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_settings_differ_by_the_names_of_their_flags():
    some, others = (
        config_file.to_dict(preset_config("paper_small", width=width), ()) for width in (96, 32)
    )
    assert config_file.differences(some, others) == {"width": (96, 32)}


def test_a_run_of_another_format_version_is_refused_by_both_versions(tmp_path):
    config_file.write(preset_config("paper_small"), (), tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    current = config_file.FORMAT_VERSION
    assert fields.pop("format_version") == current
    for version, written in ((1, fields), (current + 1, fields | {"format_version": current + 1})):
        path.write_text(json.dumps(written))
        expected = (
            f"format version {version}, but flowvid {flowvid.__version__} reads version {current}"
        )
        with pytest.raises(ConfigError, match=expected):
            config_file.read(tmp_path)


def without(name: str) -> str:
    return json.dumps({k: v for k, v in json.loads(written()).items() if k != name})


def written(**changes: object) -> str:
    fields = config_file.to_dict(preset_config("paper_small"), ())
    return json.dumps(fields | changes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[1]", r"it holds \[1\], and no object"),
        ("1", "it holds 1, and no object"),
        (without("label_names"), "label_names"),
        (without("levels"), "levels"),
        (written(momentum=0.9), "momentum"),
        (written(n_bits=6), "n_bits=6"),
    ],
    ids=["empty", "a list", "a number", "no labels", "no levels", "unknown field", "refused"],
)
def test_an_unusable_file_is_named_with_the_reason(tmp_path, text, reason):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=f"config.json cannot be read .*{reason}"):
        config_file.read(tmp_path)
