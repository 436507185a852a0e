"""The sections of `experiments.benchmark`: which measurements each of them takes."""

import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from experiments.measuring.fresh_process import call
from flowvid.config import presets
from flowvid.gan import config as gan_config

SECTIONS = (
    "parts",
    "steps",
    "pytorch",
    "sampling",
    "rollouts",
    "learning",
    "loader",
    "memory",
    "times",
    "gan",
)
MODES = ("stored", "reversible")
DEPTHS, FRAMES, BATCHES = (8, 16, 32, 64), (5, 15, 30, 60), (1, 2, 4, 8, 16)
ROLLOUT_BATCHES, ROLLOUT_FRAMES = (1, 16, 64), (30, 120)
LEARNING_STEPS = (60, 125, 250, 500)
DRAWN = 2  # frames drawn from each clip, in one of the tail's measurements
GAN_FRAMES = (4, 8, 16, 30)
_LOADED = 100  # batches


class Plan(NamedTuple):
    """What the measurements are made of."""

    base: dict[str, Any]  # the configuration, as in `costs`
    models: Sequence[str]  # whose steps are measured
    modes: Sequence[str]  # ways of differentiating the flow, of `MODES`
    repeats: int
    videos: int  # sampled together
    presets: Sequence[str]  # whose sampling and learning are compared

    def head(self, **changes: Any) -> dict[str, Any]:
        """Returns the configuration for measurements of the head."""
        return self.base | {"num_frames": 1} | changes

    def tail(self, **changes: Any) -> dict[str, Any]:
        """Returns the configuration for measurements of the tail."""
        return self.base | ({"head_steps": 1} if self.has_steps else {}) | changes

    def of(self, name: str) -> dict[str, Any]:
        """Returns the configuration for measurements of "head" or "tail"."""
        return self.head() if name == "head" else self.tail()

    @property
    def has_steps(self) -> bool:
        """Whether the flow has steps, so that its depth is a number of them."""
        return presets.PRESETS[self.base["preset"]]["flow"] == "glow"


def _parts(plan: Plan) -> Any:
    return call("costs.parts", {"changes": plan.base})


def _loader(plan: Plan) -> Any:
    return call("costs.loader", {"changes": plan.base, "num_batches": _LOADED})


def _sampling(plan: Plan) -> Any:
    arguments = {"changes": plan.base, "num_videos": plan.videos, "repeats": plan.repeats}
    return call("costs.sampling_speed", arguments)


def _rollouts(plan: Plan) -> list[dict[str, Any]]:
    """Returns the speed of sampling with each preset, batch size and number of frames."""
    models = {name: plan.base | {"preset": name} for name in plan.presets}
    sizes = {"batches": ROLLOUT_BATCHES, "lengths": ROLLOUT_FRAMES}
    arguments = {"models": models, "repeats": plan.repeats} | sizes
    rows = call("rollouts.in_turns", arguments, cores=1)
    for row in rows:
        median = statistics.median(row["seconds"])
        row["frames_per_s"] = row["batch"] * row["frames"] / median
        row["ms_per_frame"] = 1000 * median / row["frames"]
    found: list[dict[str, Any]] = rows
    return found


def _steps(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each step, compiled anew and then from the cache; stored and reversible in turn."""
    for name in plan.models:
        for mode in plan.modes:
            arguments = {"name": name, "changes": plan.of(name) | {"backprop": mode}}
            with tempfile.TemporaryDirectory() as cache:
                where = {"JAX_COMPILATION_CACHE_DIR": cache}
                step = "costs.training_step"
                figures = call(step, arguments | {"repeats": plan.repeats}, environment=where)
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


def _pytorch(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each step beside the same one in PyTorch, and how many times as long that takes."""
    for name in plan.models:
        arguments = {"name": name, "changes": plan.of(name), "modes": list(plan.modes)}
        for row in call("pytorch.steps.in_turns", arguments | {"repeats": plan.repeats}):
            pairs = zip(row["pytorch_seconds"], row["seconds"], strict=True)
            ratios = [of_twin / own for of_twin, own in pairs]
            yield row | {
                "median_s": statistics.median(row["seconds"]),
                "pytorch_median_s": statistics.median(row["pytorch_seconds"]),
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
            }


def _learning(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields what the tail of each preset has learned after trainings of several lengths."""
    for steps, preset in itertools.product(LEARNING_STEPS, plan.presets):
        changes = plan.base | {"preset": preset, "num_steps": steps}
        yield {"preset": preset} | call("learning.tail", {"changes": changes}, cores=1)


def _curve_points(plan: Plan) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields points over depth, batch and frames: how to call it, and the arguments.

    The depth is that of a Glow.
    """
    depths = DEPTHS if plan.has_steps else ()
    points = [("head", "flow steps per level", n, plan.head(head_steps=n)) for n in depths]
    points += [("head", "batch", n, plan.head(batch_size=n)) for n in BATCHES]
    points += [("tail", "frames", n, plan.tail(num_frames=n)) for n in FRAMES]
    for name, axis, value, changes in points:
        for mode in MODES:
            point = {"model": name, "axis": axis, "value": value, "backprop": mode}
            yield point, {"name": name, "changes": changes | {"backprop": mode}}


def _memory(plan: Plan) -> Iterator[dict[str, Any]]:
    for point, arguments in _curve_points(plan):
        yield point | call("costs.gradient_memory", arguments)


def _times(plan: Plan) -> Iterator[dict[str, Any]]:
    for point, arguments in _curve_points(plan):
        # The persistent cache is on, since compile times are not measured here.
        figures = call("costs.training_step", arguments | {"repeats": 2})
        yield point | {"median_s": statistics.median(figures["seconds"])}


def _gan(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields memory over frames: of the GAN, which holds them all (section V), and of the tail."""
    of_tail: dict[str, dict[str, Any]] = {mode: {"backprop": mode} for mode in MODES}
    of_tail[f"{DRAWN} frames drawn"] = {"tail_frames": DRAWN}
    for count in GAN_FRAMES:
        for name in ("generator", "discriminator"):
            preset = gan_config.preset_of_size(plan.base["preset"])
            of_gan = {"preset": preset, "num_frames": count}
            point = {"model": f"GAN's {name}", "frames": count}
            yield point | call("costs.gan_memory", {"name": name, "changes": of_gan})
        for name, changes in of_tail.items():
            point = {"model": f"flow's tail, {name}", "frames": count}
            arguments = {"name": "tail", "changes": plan.tail(num_frames=count, **changes)}
            yield point | call("costs.gradient_memory", arguments)


_WHOLE: dict[str, Callable[[Plan], Any]] = {
    "parts": _parts,
    "sampling": _sampling,
    "rollouts": _rollouts,
    "loader": _loader,
}
_ROWS: dict[str, Callable[[Plan], Iterator[dict[str, Any]]]] = {
    "steps": _steps,
    "pytorch": _pytorch,
    "learning": _learning,
    "memory": _memory,
    "times": _times,
    "gan": _gan,
}


def measure(section: str, plan: Plan) -> Any:
    """Returns the results of a section, as `benchmark_output.text` takes them."""
    if section in _WHOLE:
        return _WHOLE[section](plan)
    rows = _ROWS[section](plan)
    return list(tqdm(rows, desc=section, unit="measurement", leave=False))
