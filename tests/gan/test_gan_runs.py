"""Whole runs of the GAN: training, resuming, sampling, and refused configurations."""

import json
import subprocess
import sys

import imageio.v3 as iio
import pytest
from command_line import ROOT, assert_one_line
from gan_cases import TINY, tiny
from helpers import NUM_CLIPS, assert_same, events

from flowvid.config import config_file
from flowvid.errors import ConfigError
from flowvid.gan import config, trained

pytest_plugins = ["command_line", "system_fixtures"]


def flags_of(data_dir, **changes):
    fields = TINY | {"data_dir": data_dir} | changes
    return [f"--{name}={value}" for name, value in fields.items()]


def final(workdir):
    gan = trained.load(workdir)
    return gan.params, gan.step


def test_a_resumed_run_ends_with_the_same_bits_and_is_sampled(call, data_dir, tmp_path):
    assert NUM_CLIPS["train"] >= TINY["batch_size"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = flags_of(data_dir, labels=True)
    code, out, _ = call("gan.train", *flags, f"--workdir={whole}")
    assert code == 0
    assert "is trained to step 4" in out
    call("gan.train", *flags, "--num_steps=2", f"--workdir={parts}")
    code, out, _ = call("gan.train", "--num_steps=4", f"--workdir={parts}")
    assert f"Resuming {parts} at step 2." in out
    (a, at), (b, bt) = final(whole), final(parts)
    assert at == bt == 4
    assert_same(a, b)
    curves = events(whole)
    assert set(curves["generator/frame_std"]) == {1, 2, 3, 4}
    assert set(curves["discriminator/accuracy"]) == {1, 2, 3, 4}
    assert (whole / "previews" / "step000002.png").exists()

    code, out, _ = call("gan.sample", f"--workdir={whole}", "--num_videos=2", "--label=bounce")
    assert code == 0
    assert "2 videos" in out
    assert iio.imread(whole / "samples" / "001.gif").shape[0] == 3
    assert iio.imread(whole / "samples" / "samples.png").ndim == 3
    result = call("gan.sample", f"--workdir={whole}", "--label=bouncy")
    assert_one_line(result, "bounce")


def test_runs_of_another_configuration_are_refused(call, data_dir, tmp_path):
    call("gan.train", *flags_of(data_dir, num_steps=0), f"--workdir={tmp_path}")
    result = call("gan.train", "--width=5", f"--workdir={tmp_path}")
    assert_one_line(result, "--width=5 (the run has 4)")
    assert_one_line(call("gan.sample", f"--workdir={tmp_path}", "--label=bounce"), "--label")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "wgan"}, "paper, r1"),
        ({"preset": "large"}, "paper, small"),
        ({"image_size": 9}, "2^levels = 2"),
        ({"label_size": 3}, "--label_size=3"),
        ({"beta1": 1.0}, "--beta1=1.0 must be below 1"),
        ({"ema_decay": 1.0}, "--ema_decay=1.0 must be below 1"),
        ({"seed": 2**32}, "2^32"),
        ({"first_views": -1}, "at least 0"),
    ],
)
def test_invalid_configurations_are_refused(changes, message):
    with pytest.raises(ConfigError) as error:
        tiny(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": None}, "holds no run of the GAN: train one with `python -m flowvid.gan"),
        ({"label_names": None}, "holds no run of the GAN"),
        ({"format_version": None}, "is of format version 1"),
        ({"width": None}, "is not a configuration of this version of flowvid: .*'width'"),
        ({"depth": 3}, "is not a configuration of this version of flowvid: .*'depth'"),
        ({"beta1": 1.0}, "is not a configuration of this version of flowvid: --beta1=1.0 must"),
    ],
)
def test_unusable_config_files_are_refused(tmp_path, changes, message):
    """A change of None removes the entry."""
    saved = config_file.to_dict(tiny(), ("a", "b"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(saved))
    assert config.read(tmp_path) == (tiny(), ("a", "b"))
    removed = {name for name, value in changes.items() if value is None}
    path.write_text(json.dumps({k: v for k, v in (saved | changes).items() if k not in removed}))
    with pytest.raises(ConfigError, match=message):
        config.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3"])
def test_other_files_hold_no_run(tmp_path, text):
    with pytest.raises(ConfigError, match="holds no run of the GAN"):
        config.read(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="holds no run of the GAN"):
        config.read(tmp_path)


@pytest.mark.parametrize(("name", "flag"), [("train", "--r1_weight"), ("sample", "--checkpoint")])
def test_help_does_not_load_jax(name, flag):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['program', '--help']\n"
        "try:\n"
        f"    runpy.run_module('flowvid.gan.{name}', run_name='__main__')\n"
        "finally:\n"
        "    print('loaded:', *({'jax', 'tensorflow', 'numpy'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == ""
    assert flag in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded:"
