"""The benchmark's measurements, at sizes that say nothing but run every path."""

import importlib.util
import json
import os
import subprocess
import sys

import imageio.v3 as imageio
import jax
import pytest

from experiments.measuring import (
    benchmark_file,
    benchmark_output,
    benchmark_sections,
    costs,
    fresh_process,
    rollouts,
    step_profile,
)
from flowvid import cli
from flowvid.errors import ConfigError, TrainingError
from flowvid.training import cost, train_state
from flowvid.video.frames import dims

TINY = {
    "preset": "paper",
    "variant": "state",
    "levels": 1,
    "head_steps": 1,
    "width": 8,
    "state_size": 4,
    "image_size": 8,
    "num_frames": 3,
    "batch_size": 4,
}


def test_a_process_of_its_own_answers_with_its_own_environment():
    arguments = {"changes": TINY}
    answer = fresh_process.call("costs.parts", arguments, environment={"XLA_FLAGS": ""})
    assert answer == costs.parts(TINY)


def test_a_process_that_fails_says_why():
    with pytest.raises(TrainingError, match="--width=0 must be at least 1"):
        fresh_process.call("costs.parts", {"changes": TINY | {"width": 0}})


def test_the_parts_have_the_papers_parameters_and_their_share_of_the_arithmetic():
    parts = costs.parts({"preset": "paper", "variant": "state"})
    assert parts["tail processor"]["parameters"] == 10_166
    config = costs.config_of({"preset": "paper", "variant": "state"})
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
    function, arguments = "costs.training_step", {"name": "tail", "changes": changes}
    figures = fresh_process.call(
        function, arguments | {"repeats": 2}, environment={"XLA_FLAGS": ""}
    )
    assert len(figures["seconds"]) == 2
    assert min(figures["seconds"]) > 0
    assert figures["temp_mb"] > 0 and figures["peak_rss_mb"] > 50 and figures["matmul_gflops"] > 0
    assert figures["gflop"] == cost.step_gflop(costs.config_of(changes))["tail"]


def test_gradient_memory_shows_what_is_stored():
    deep = TINY | {"head_steps": 16, "width": 32, "num_frames": 1, "image_size": 32}
    stored, reversible = (
        costs.gradient_memory("head", deep | {"backprop": mode})["temp_mb"]
        for mode in ("stored", "reversible")
    )
    assert stored > 2 * reversible


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_the_gan_holds_all_frames(name):
    small = {"preset": "small", "levels": 1, "width": 8, "image_size": 16, "batch_size": 2}
    few, many = (
        costs.gan_memory(name, small | {"num_frames": count})["temp_mb"] for count in (4, 16)
    )
    assert many > 2 * few


def test_the_gan_is_drawn_beside_the_flow(tmp_path):
    points = [
        {"model": model, "frames": count, "temp_mb": 2.0 * count}
        for model in ("GAN's generator", "flow's tail, stored")
        for count in (4, 8)
    ]
    text = benchmark_output.text("gan", points)
    assert text.splitlines()[2] == "| 4 | GAN's generator | 8 |"
    benchmark_output.draw({"machine": "a machine", "gan": points}, tmp_path / "memory.png")
    assert imageio.imread(tmp_path / "memory.png").ndim == 3


def test_sampling_is_timed_beside_the_forward_pass():
    figures = costs.sampling_speed(TINY, num_videos=2, repeats=2)
    assert (figures["videos"], figures["frames"]) == (2, 6)
    assert len(figures["sampling_s"]) == len(figures["forward_s"]) == 2


def test_rollouts_are_timed_in_turns():
    models = {"glow": TINY, "other": TINY | {"width": 4}}
    rows = rollouts.in_turns(models, batches=[1, 2], lengths=[2, 3], repeats=2)
    sizes = [(row["model"], row["batch"], row["frames"]) for row in rows]
    assert sizes[:4] == [("glow", 1, 2), ("glow", 1, 3), ("other", 1, 2), ("other", 1, 3)]
    assert len(sizes) == len(set(sizes)) == 8
    assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in rows)


def test_speeds_of_rollouts_are_of_their_medians(monkeypatch):
    def call(function, arguments, cores):
        assert (function, cores) == ("rollouts.in_turns", 1)
        assert arguments["models"] == {"small": {"preset": "small", "variant": "state"}}
        return [{"model": "small", "batch": 4, "frames": 30, "seconds": [9.0, 3.0, 2.0]}]

    monkeypatch.setattr(benchmark_sections, "call", call)
    base = {"preset": "paper", "variant": "state"}
    (row,) = benchmark_sections.measure(
        "rollouts", benchmark_sections.Plan(base, [], [], 3, 16, ["small"])
    )
    assert benchmark_output.text("rollouts", [row]).endswith("| small | 4 | 30 | 40 | 100 |")


def test_what_is_measured_has_no_silent_networks():
    config = costs.config_of(TINY)
    params = costs.parameters(config)
    zeros = [
        path
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not train_state.is_constant(path) and not leaf.any()
    ]
    assert not zeros
    assert dims(costs.random_batch(config, 2).video) == 8 * 8 * 3


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
    spent = {row["network"]: row["seconds"] for row in profiled["networks"]}
    assert spent["CouplingNetwork"] > 0
    assert sum(spent.values()) == pytest.approx(profiled["named_s"])
    tables = step_profile.format_tables(profiled)
    assert tables.count("the whole step") == 2
    columns = [line.count("|") for line in tables.splitlines()]
    first, second = columns[: columns.index(0)], columns[columns.index(0) + 1 :]
    assert set(first) == {5} and set(second) == {4}


@pytest.mark.parametrize(
    ("op_name", "network"),
    [
        ("jit(step)/transpose(jvp(UNet))/UNet._read_off/Conv_3/dot_general", "UNet"),
        ("jit(step)/jvp(hindsight)/LayerNetwork/motion/add", "hindsight, LayerNetwork, motion"),
        ("jit(step)/jvp(hindsight)/motion/add", "hindsight, motion"),
        ("jit(step)/jvp()/while/body/add", "outside of networks"),
        ("jit(step)/cond/branch_1_fun/mul", "update of parameters"),
    ],
)
def test_operations_belong_to_their_outermost_network(op_name, network):
    assert step_profile.network_of(op_name) == network


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


def run_benchmark(*flags):
    """In a process of its own: its flags are named like those of training."""
    command = [sys.executable, "-m", "experiments.benchmark", "--preset=paper_small", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_command_measures_prints_and_adds_to_what_was_written(tmp_path):
    out = tmp_path / "benchmark.json"
    memory = [
        {"model": model, "axis": axis, "value": n, "backprop": mode, "temp_mb": 1.0 * n}
        for model, axis in (("head", "flow steps per level"), ("head", "batch"), ("tail", "frames"))
        for n in (1, 2)
        for mode in ("stored", "reversible")
    ]
    settings = {"preset": "paper_small", "variant": "state", "compute_dtype": "float32"}
    begun = benchmark_file.begin(None, settings)
    out.write_text(json.dumps(begun | {"memory": memory}))
    picture = tmp_path / "curves.png"
    done = run_benchmark("--sections=parts", f"--out={out}", f"--picture={picture}")
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["memory"] == memory
    assert report["parts"] == costs.parts({"preset": "paper_small", "variant": "state"})
    assert benchmark_output.text("parts", report["parts"]) in done.stdout
    assert imageio.imread(picture).std() > 0


@pytest.mark.parametrize("other", [{"machine": "64 cores, fast"}, {"settings": {}}, {}])
def test_measurements_of_other_machines_or_models_are_not_mixed(other, tmp_path):
    path = tmp_path / "benchmark.json"
    settings = {"preset": "paper_small"}
    path.write_text(json.dumps(benchmark_file.begin(None, settings) | {"parts": 1}))
    assert benchmark_file.begin(path, settings)["parts"] == 1
    path.write_text(json.dumps({"settings": settings} | other | {"memory": []}))
    with pytest.raises(ConfigError, match=r"holds measurements with (machine|settings) .*another"):
        benchmark_file.begin(path, settings)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sections=parts,tail"], "unknown section 'tail': use some of parts, steps"),
        (["--sections=parts", "--picture=x.png"], "give both"),
        (["--sections=steps", "--modes=stored,exact"], "--modes=exact: use stored or reversible"),
        (["--sections=rollouts", "--presets=small,tiny"], "--presets=tiny: use paper or"),
        (["--sections=pytorch", "--preset=small"], "has no twin: add --models=tail"),
    ],
)
def test_the_command_says_what_it_cannot_do(flags, message):
    done = run_benchmark(*flags)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_without_pytorch_the_command_says_how_to_install_it():
    done = run_benchmark("--sections=pytorch")
    assert done.returncode == 1
    assert "pip install 'flowvid[bench]'" in done.stderr


def test_there_is_no_picture_without_curves(tmp_path):
    with pytest.raises(ConfigError, match="--sections=memory,times, "):
        benchmark_output.draw({"machine": "one", "parts": {}}, tmp_path / "picture.png")


@pytest.mark.parametrize(
    ("section", "figures", "expected"),
    [
        ("loader", {"videos_per_s": 1234.5}, "1,234 videos per second"),
        (
            "sampling",
            {"videos": 2, "frames": 6, "sampling_s": [4.0, 2.0], "forward_s": [2.0, 1.5]},
            "3 s, 0.667 videos and 2 frames per second. The forward pass over as many frames "
            "takes 1.75 s; sampling runs at 0.62 of its speed",
        ),
        (
            "times",
            [{"model": "head", "axis": "batch", "value": 8, "backprop": "stored", "median_s": 4.0}],
            "| head | batch | 8 | stored | 4 |",
        ),
    ],
)
def test_a_section_is_printed(section, figures, expected):
    assert expected in benchmark_output.text(section, figures)
