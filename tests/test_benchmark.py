"""The benchmark's measurements, at sizes that say nothing but run every path."""

import os
import subprocess
import sys

import jax
import pytest

from experiments import fresh_process, measurements, step_profile
from flowvid import cli, cost, state, steps
from flowvid.errors import TrainingError

TINY = {
    "preset": "paper",
    "variant": "state",
    "levels": 2,
    "head_steps": 1,
    "width": 8,
    "state_size": 4,
    "image_size": 8,
    "num_frames": 3,
    "batch_size": 4,
}


def test_a_process_of_its_own_answers_with_its_own_environment():
    arguments = {"changes": TINY}
    answer = fresh_process.call("measurements.parts", arguments, environment={"XLA_FLAGS": ""})
    assert answer == measurements.parts(TINY)


def test_a_process_that_fails_says_why():
    with pytest.raises(TrainingError, match="--width=0 must be at least 1"):
        fresh_process.call("measurements.parts", {"changes": TINY | {"width": 0}})


def test_the_parts_have_the_papers_parameters_and_their_share_of_the_arithmetic():
    parts = measurements.parts({"preset": "paper", "variant": "state"})
    assert parts["tail processor"]["parameters"] == 10_166
    config = measurements.config_of({"preset": "paper", "variant": "state"})
    assert parts["head flow"]["gflop"] * 3 * 8 == pytest.approx(cost.step_gflop(config)["head"])
    # 3x3 convolutions of 19 to 32 and 32 to 16 channels at 64x64.
    assert parts["tail processor"]["gflop"] == pytest.approx(
        2e-9 * 64 * 64 * 9 * (19 * 32 + 32 * 16)
    )
    # Stride-2 3x3 convolutions of 19 channels to 32x32, 16x16 and 8x8.
    pixels = 32 * 32 + 16 * 16 + 8 * 8
    assert parts["tail pyramid"]["gflop"] == pytest.approx(2e-9 * pixels * 9 * 19 * 19)


def test_a_training_step_is_timed_and_its_memory_read():
    changes = TINY | {"backprop": "reversible"}
    function, arguments = "measurements.training_step", {"name": "tail", "changes": changes}
    figures = fresh_process.call(
        function, arguments | {"repeats": 2}, environment={"XLA_FLAGS": ""}
    )
    assert len(figures["seconds"]) == 2
    assert min(figures["seconds"]) > 0
    assert figures["temp_mb"] > 0 and figures["peak_rss_mb"] > 50 and figures["matmul_gflops"] > 0
    assert figures["gflop"] == cost.step_gflop(measurements.config_of(changes))["tail"]


def test_gradient_memory_shows_what_is_stored():
    deep = TINY | {"head_steps": 16, "width": 32, "num_frames": 1, "image_size": 32}
    stored, reversible = (
        measurements.gradient_memory("head", deep | {"backprop": mode})["temp_mb"]
        for mode in ("stored", "reversible")
    )
    assert stored > 2 * reversible


def test_sampling_is_timed_beside_the_forward_pass():
    figures = measurements.sampling_speed(TINY, num_videos=2, repeats=2)
    assert (figures["videos"], figures["frames"]) == (2, 6)
    assert len(figures["sampling_s"]) == len(figures["forward_s"]) == 2


def test_what_is_measured_has_no_silent_networks():
    config = measurements.config_of(TINY)
    params = measurements.parameters(config)
    zeros = [
        path
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not state.is_constant(path) and not leaf.any()
    ]
    assert not zeros
    assert steps.dims(measurements.random_batch(config, 2).video) == 8 * 8 * 3


def test_the_profile_adds_up():
    profiled = fresh_process.call(
        "step_profile.profile",
        {"name": "head", "changes": TINY | {"num_frames": 1, "batch_size": 8, "width": 64}},
        cores=1,
        environment={"XLA_FLAGS": step_profile.FLAGS},
    )
    assert 0 < profiled["named_s"] <= profiled["step_s"]
    kinds = {(row["phase"], row["kind"]) for row in profiled["rows"]}
    assert {("forward", "matrix products"), ("backward", "matrix products")} <= kinds
    assert "the whole step" in step_profile.format_table(profiled)


@pytest.mark.parametrize("given", [None, "glibc.malloc.check=0"])
def test_training_asks_for_huge_pages_unless_told_otherwise(given):
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    if given is not None:
        environment["GLIBC_TUNABLES"] = given
    code = "import os; from flowvid import cli; cli.use_huge_pages(); "
    code += "print(os.environ['GLIBC_TUNABLES'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (given or cli.HUGE_PAGES["GLIBC_TUNABLES"])
