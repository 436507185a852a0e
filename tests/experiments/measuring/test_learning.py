"""What tails learn over processor time, and the comparison with PyTorch: tables and picture."""

import imageio.v3 as imageio
import pytest

from experiments.measuring import benchmark_output, benchmark_sections, learning
from flowvid.config.making import preset_config

pytest_plugins = ["records"]

TINY = {
    "preset": "paper_small",
    "variant": "prev_frame",
    "levels": 1,
    "tail_steps": 1,
    "head_steps": 1,
    "width": 8,
    "image_size": 32,
    "num_frames": 4,
    "batch_size": 4,
}


@pytest.fixture
def calls(monkeypatch):
    """Collects what sections call, which returns the entries of `answers`."""
    made, answers = [], {}

    def call(function, arguments, cores=None):
        made.append((function, arguments, cores))
        return answers[function]

    monkeypatch.setattr(benchmark_sections, "call", call)
    return made, answers


def plan(**changes):
    of_plan = {"base": {"preset": "paper", "variant": "state"}, "models": ["head"]}
    of_plan |= {"modes": ["stored"], "repeats": 2, "videos": 2, "presets": ["paper_small", "small"]}
    return benchmark_sections.Plan(**of_plan | changes)


def test_a_tail_learns_on_clips(shapes_dir):
    few, more = (
        learning.tail(TINY | {"num_steps": steps, "data_dir": str(shapes_dir)}) for steps in (1, 40)
    )
    assert (few["steps"], more["steps"]) == (1, 40)
    assert 0 < few["cpu_minutes"] < more["cpu_minutes"]
    assert more["bits_per_dim"] < few["bits_per_dim"] - 0.1
    assert more["standard_error"] > 0


def test_each_preset_learns_for_each_number_of_steps(calls, tmp_path):
    made, answers = calls
    of_tail = {"steps": 60, "cpu_minutes": 0.5, "bits_per_dim": 1.25, "standard_error": 0.01}
    answers["learning.tail"] = of_tail
    rows = benchmark_sections.measure("learning", plan())
    lengths = [
        (arguments["changes"]["preset"], arguments["changes"]["num_steps"])
        for _, arguments, _ in made
    ]
    assert lengths[:2] == [("paper_small", 60), ("small", 60)]
    assert len(set(lengths)) == len(rows) == 2 * len(benchmark_sections.LEARNING_STEPS)
    assert {cores for *_, cores in made} == {1}
    text = benchmark_output.text("learning", rows)
    assert text.splitlines()[2] == "| paper_small | 60 | 0.5 | 1.25 | 0.01 |"
    benchmark_output.draw({"machine": "a machine", "learning": rows}, tmp_path / "learning.png")
    assert imageio.imread(tmp_path / "learning.png").ndim == 3


def test_ratios_are_of_steps_of_the_same_round(calls):
    made, answers = calls
    row = {"model": "head", "backprop": "stored", "seconds": [1.0, 2.0, 4.0]}
    answers["pytorch.steps.in_turns"] = [row | {"pytorch_seconds": [1.5, 2.0, 8.0]}]
    (found,) = benchmark_sections.measure("pytorch", plan())
    assert made[0][1]["changes"]["num_frames"] == 1
    assert (found["ratio"], found["lowest"], found["highest"]) == (1.5, 1.0, 2.0)
    text = benchmark_output.text("pytorch", [found])
    assert text.endswith("| head | stored | 2 | 2 | 1.5 | 1.00 to 2.00 |")


def test_only_a_glow_is_measured_over_its_depth(calls, tmp_path):
    made, answers = calls
    answers["costs.gradient_memory"] = {"temp_mb": 2.0}
    of_glow, of_mixture = (
        benchmark_sections.measure("memory", plan(base={"preset": preset, "variant": "state"}))
        for preset in ("paper_small", "small")
    )
    assert {row["axis"] for row in of_glow} == {"flow steps per level", "batch", "frames"}
    assert {row["axis"] for row in of_mixture} == {"batch", "frames"}
    for_mixture = [arguments["changes"] for _, arguments, _ in made[len(of_glow) :]]
    assert not any("head_steps" in changes for changes in for_mixture)
    assert all(preset_config(num_steps=1, num_labels=8, **changes) for changes in for_mixture)
    benchmark_output.draw({"machine": "one", "memory": of_mixture}, tmp_path / "memory.png")
    assert imageio.imread(tmp_path / "memory.png").ndim == 3
