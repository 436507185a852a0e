"""What the models cost: `python -m experiments.benchmark`.

Measures training steps of head and tail (stored and reversible), sampling, the loader, compile
time, and memory over depth, frames and batch size. Three sections compare. "pytorch" takes the
same training steps in PyTorch, in turns; it needs the extra `bench`. "rollouts" samples with
several presets over batch size and length, and "learning" trains their tails for 60 to 500 steps
and evaluates them, both on one core. Prints tables in Markdown, and writes JSON and a picture of
the curves.
"""

import importlib.util
import json
from typing import Any

from absl import flags

from experiments.measuring.benchmark_sections import MODES, SECTIONS, Plan, measure
from flowvid import cli, fields
from flowvid.config import presets, schema
from flowvid.errors import ConfigError

MODELS = ("head", "tail")
_SECTIONS = flags.DEFINE_list(
    "sections",
    ["parts", "steps"],
    f"Some of {', '.join(SECTIONS)}; or all, which is all but pytorch.",
)
_MODELS = flags.DEFINE_list("models", list(MODELS), "Models whose steps are measured.")
_MODES = flags.DEFINE_list("modes", list(MODES), "Ways of differentiating the flow's steps.")
_PROFILE = flags.DEFINE_enum(
    "profile",
    None,
    list(MODELS),
    "Measure where the time of a step of this model goes on one core of a CPU, and nothing else.",
)
_PRESET = flags.DEFINE_enum("preset", "paper", list(presets.PRESETS), "Preset of the models.")
_VARIANT = flags.DEFINE_enum("variant", "state", list(schema.VARIANTS), "Variant of the models.")
_TAIL_STEPS = flags.DEFINE_integer(
    "tail_steps", None, "Steps of flow per level in the tail. [the preset's]"
)
_COMPUTE_DTYPE = flags.DEFINE_string("compute_dtype", "float32", "Type of the coupling networks.")
_REPEATS = flags.DEFINE_integer(
    "repeats",
    5,
    "Timed runs of each step, whose median counts. Several come after one that is not counted.",
    lower_bound=1,
)
_VIDEOS = flags.DEFINE_integer("videos", 16, "Videos to sample together.", lower_bound=1)
_PRESETS = flags.DEFINE_list(
    "presets", ["paper_small", "small"], "Presets that rollouts and learning compare."
)
_OUT = fields.path_flag(
    "out", None, "JSON file to write. Sections are added to a file of the same settings. [none]"
)
_PICTURE = fields.path_flag("picture", None, "Picture of the curves in --out. [none]")


def _wanted_sections() -> list[str]:
    """Returns the sections that the flags ask for.

    Raises:
        ConfigError: for unknown sections, models or modes, a picture without --out, or models that
            cannot be compared with PyTorch.
    """
    wanted = _SECTIONS.value
    if wanted == ["all"]:
        wanted = [name for name in SECTIONS if name != "pytorch"]  # it needs an extra
    if unknown := [name for name in wanted if name not in SECTIONS]:
        raise ConfigError(f"unknown section {unknown[0]!r}: use some of {', '.join(SECTIONS)}.")
    known_values = ((_MODELS, MODELS), (_MODES, MODES), (_PRESETS, list(presets.PRESETS)))
    for flag, known in known_values:
        if others := [value for value in flag.value or [] if value not in known]:
            raise ConfigError(f"--{flag.name}={others[0]}: use {' or '.join(known)}.")
    if "pytorch" in wanted:
        _check_twins()
    if _PICTURE.value and not _OUT.value:
        raise ConfigError("--picture draws the curves in --out: give both.")
    return [] if _PROFILE.value else list(wanted)


def _check_twins() -> None:
    """Checks that the models have twins in PyTorch, and that there is PyTorch.

    Raises:
        ConfigError: saying what to do.
    """
    if presets.PRESETS[_PRESET.value]["flow"] == "mixture" and "head" in _MODELS.value:
        raise ConfigError(
            "--sections=pytorch: the head of the mixture flow has no twin: add --models=tail."
        )
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("--sections=pytorch needs PyTorch: run `pip install 'flowvid[bench]'`.")


def _base() -> dict[str, Any]:
    changes = {
        "preset": _PRESET.value,
        "variant": _VARIANT.value,
        "compute_dtype": _COMPUTE_DTYPE.value,
        "tail_steps": _TAIL_STEPS.value,
    }
    return {name: value for name, value in changes.items() if value is not None}


def main() -> None:
    """Measures the sections, one after another, and prints and writes each."""
    from experiments.measuring import benchmark_file, benchmark_output, step_profile
    from experiments.measuring.fresh_process import call

    wanted = _wanted_sections()
    plan = Plan(_base(), _MODELS.value, _MODES.value, _REPEATS.value, _VIDEOS.value, _PRESETS.value)
    path = _OUT.value
    report = benchmark_file.begin(path, plan.base)
    print(f"{report['machine']}; medians of {_REPEATS.value}")
    if _PROFILE.value:
        report["profile"] = call(
            "step_profile.profile",
            {"name": _PROFILE.value, "changes": plan.of(_PROFILE.value)},
            cores=1,
            environment={"XLA_FLAGS": step_profile.FLAGS},
        )
        print(step_profile.format_tables(report["profile"]))
    for section in wanted:
        report[section] = measure(section, plan)
        print(f"\n{section}\n\n{benchmark_output.text(section, report[section])}", flush=True)
        if path is not None:  # at once, since the whole takes long
            path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if _PICTURE.value:
        benchmark_output.draw(report, _PICTURE.value)


if __name__ == "__main__":
    cli.run(main)
