"""What the paper's models cost: `python -m experiments.benchmark`.

Training steps of head and tail, stored and reversible; sampling; loader; compile time; memory over
depth, frames and batch. Prints tables in Markdown, and writes JSON and a picture of the curves.
"""

import json
import pathlib
import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import flags
from tqdm import tqdm

from experiments import machine, presentation, step_profile
from experiments.fresh_process import call
from flowvid import cli
from flowvid.config import schema
from flowvid.errors import ConfigError

SECTIONS = ("parts", "steps", "sampling", "loader", "memory", "times", "gan")
_SECTIONS = flags.DEFINE_list("sections", ["parts", "steps"], f"Of {', '.join(SECTIONS)}; or all.")
_MODELS = flags.DEFINE_list("models", ["head", "tail"], "Whose steps are measured.")
_MODES = flags.DEFINE_list("modes", ["stored", "reversible"], "How they are differentiated.")
_PROFILE = flags.DEFINE_bool("profile", False, "Where the time of the head's step on CPU goes.")
_PRESET = flags.DEFINE_enum("preset", "paper", list(schema.PRESETS), "Of the models.")
_VARIANT = flags.DEFINE_enum("variant", "state", list(schema.VARIANTS), "Of the models.")
_TAIL_STEPS = flags.DEFINE_integer("tail_steps", None, "Steps a level in the tail. [the preset's]")
_COMPUTE_DTYPE = flags.DEFINE_string("compute_dtype", "float32", "Of the coupling networks.")
_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Of each step: medians, after one left out; 1: that one alone.", lower_bound=1
)
_VIDEOS = flags.DEFINE_integer("videos", 16, "To sample at once.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "JSON file to write; one that is there is added to. [none]")
_PICTURE = flags.DEFINE_string("picture", None, "Picture of the curves in --out. [none]")

MODES = ("stored", "reversible")
DEPTHS, FRAMES, BATCHES = (8, 16, 32, 64), (5, 15, 30, 60), (1, 2, 4, 8, 16)
DRAWN = 2  # of each clip's frames, in one of the tail's measurements
GAN_FRAMES = (4, 8, 16, 30)


def _base() -> dict[str, Any]:
    changes = {
        "preset": _PRESET.value,
        "variant": _VARIANT.value,
        "compute_dtype": _COMPUTE_DTYPE.value,
        "tail_steps": _TAIL_STEPS.value,
    }
    return {name: value for name, value in changes.items() if value is not None}


def _head(**changes: Any) -> dict[str, Any]:
    return _base() | {"num_frames": 1} | changes


def _steps() -> Iterator[dict[str, Any]]:
    """Each step cold, then from the cache; stored and reversible in turns."""
    changes_of = {"head": _head(), "tail": _base() | {"head_steps": 1}}
    for name in _MODELS.value:
        for mode in _MODES.value:
            changes = changes_of[name]
            arguments = {"name": name, "changes": changes | {"backprop": mode}}
            with tempfile.TemporaryDirectory() as cache:
                where = {"JAX_COMPILATION_CACHE_DIR": cache}
                step = "measurements.training_step"
                figures = call(step, arguments | {"repeats": _REPEATS.value}, environment=where)
                warm = call(step, arguments | {"repeats": 0}, environment=where)
            median = statistics.median(figures["seconds"])
            speed = figures["gflop"] / median / figures["matmul_gflops"]
            yield {
                "model": name,
                "backprop": mode,
                "median_s": median,
                "of_matmul_peak": speed,
                "warm_compile_s": warm["compile_s"],
            } | figures


def _curves(section: str) -> Iterator[dict[str, Any]]:
    """Memory of the gradients, or seconds of a step, over depth, frames and batch."""
    points = [("head", "flow steps a level", n, _head(head_steps=n)) for n in DEPTHS]
    points += [("head", "batch", n, _head(batch_size=n)) for n in BATCHES]
    tail = _base() | {"head_steps": 1}
    points += [("tail", "frames", n, tail | {"num_frames": n}) for n in FRAMES]
    for name, axis, value, changes in points:
        for mode in MODES:
            arguments = {"name": name, "changes": changes | {"backprop": mode}}
            point = {"model": name, "axis": axis, "value": value, "backprop": mode}
            if section == "memory":
                yield point | call("measurements.gradient_memory", arguments)
            else:
                # The persistent cache is on: how long these compile is not asked.
                figures = call("measurements.training_step", arguments | {"repeats": 2})
                yield point | {"median_s": statistics.median(figures["seconds"])}


def _gan() -> Iterator[dict[str, Any]]:
    """Memory over frames: the GAN, whose steps hold them all (paper, section V), and the tail."""
    of_tail: dict[str, dict[str, Any]] = {mode: {"backprop": mode} for mode in MODES}
    of_tail[f"{DRAWN} frames drawn"] = {"tail_frames": DRAWN}
    for count in GAN_FRAMES:
        for name in ("generator", "discriminator"):
            of_gan = {"preset": _PRESET.value, "num_frames": count}
            arguments = {"name": name, "changes": of_gan}
            point = {"model": f"GAN's {name}", "frames": count}
            yield point | call("measurements.gan_memory", arguments)
        for name, changes in of_tail.items():
            changes = _base() | {"head_steps": 1, "num_frames": count} | changes
            point = {"model": f"flow's tail, {name}", "frames": count}
            arguments = {"name": "tail", "changes": changes}
            yield point | call("measurements.gradient_memory", arguments)


def _measure(section: str) -> Any:
    if section == "parts":
        return call("measurements.parts", {"changes": _base()})
    if section == "loader":
        return call("measurements.loader", {"changes": _base(), "num_batches": 100})
    if section == "sampling":
        arguments = {"changes": _base(), "num_videos": _VIDEOS.value, "repeats": _REPEATS.value}
        return call("measurements.sampling_speed", arguments)
    of_section = {"steps": _steps, "gan": _gan}
    rows = of_section[section]() if section in of_section else _curves(section)
    return list(tqdm(rows, desc=section, unit="measurement", leave=False))


def main() -> None:
    """Measures the sections asked for, one after another, prints and writes each."""
    wanted = list(SECTIONS) if _SECTIONS.value == ["all"] else _SECTIONS.value
    if unknown := [name for name in wanted if name not in SECTIONS]:
        raise ConfigError(f"unknown section {unknown[0]!r}: use some of {', '.join(SECTIONS)}.")
    for flag, known in ((_MODELS, ("head", "tail")), (_MODES, MODES)):
        if others := [value for value in flag.value or [] if value not in known]:
            raise ConfigError(f"--{flag.name}={others[0]}: use {' or '.join(known)}.")
    if _PICTURE.value and not _OUT.value:
        raise ConfigError("--picture draws what is in --out: give both.")
    path = pathlib.Path(_OUT.value) if _OUT.value else None
    report = json.loads(path.read_text()) if path is not None and path.exists() else {}
    report["machine"] = machine.describe()
    print(f"{report['machine']}; medians of {_REPEATS.value}")
    if _PROFILE.value:
        wanted = []
        arguments = {"name": "head", "changes": _head()}
        flags_of_xla = {"XLA_FLAGS": step_profile.FLAGS}
        function = "step_profile.profile"
        report["profile"] = call(function, arguments, cores=1, environment=flags_of_xla)
        print(step_profile.format_table(report["profile"]))
    for section in wanted:
        report[section] = _measure(section)
        print(f"\n{section}\n\n{presentation.text(section, report[section])}", flush=True)
        if path is not None:  # as soon as it is known: the whole takes long
            path.write_text(json.dumps(report, indent=2) + "\n")
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n")
    if _PICTURE.value:
        presentation.draw(report, pathlib.Path(_PICTURE.value))


if __name__ == "__main__":
    cli.run(main)
