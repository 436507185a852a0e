"""The whole plan of a run as one dictionary: `experiments.plan` prints it and writes it as JSON."""

from collections.abc import Sequence
from typing import Any

from experiments.planning import estimate, step_work
from experiments.planning.cards import HERE, Card
from experiments.planning.estimate import Assumptions, Scale
from flowvid.arrays import CHANNELS
from flowvid.config.schema import Config


def make(
    config: Config,
    card: Card,
    scale: Scale,
    assumed: Assumptions,
    compiled: bool = False,
) -> dict[str, Any]:
    """Returns what the run would cost; see `estimate` for what the sections hold.

    Args:
        config: of the run.
        card: each of its devices.
        scale: of the run.
        assumed: what is not known.
        compiled: whether the memory of a step is XLA's, which takes compiling it, and not the
            flow's own count of what its backward pass keeps.

    Raises:
        ConfigError: when the batch cannot be divided by the number of devices.
    """
    step_work.local_videos(config, scale.devices)  # before the traces, which take a minute
    bytes_of = step_work.state_bytes(config)
    steps = {name: _step(config, name, card, scale, assumed, bytes_of) for name in config.models}
    seconds = sum(step["total_s"] for step in steps.values())
    record = config.num_frames * config.image_size.height * config.image_size.width * CHANNELS
    kept = step_work.compiled_bytes if compiled else step_work.activation_bytes
    activations = {name: kept(config, name, scale.devices) for name in config.models}
    every = min(config.checkpoint_every, config.eval_every)
    on_device = float(record * config.batch_size // scale.devices)
    return {
        "preset": config.preset,
        "variant": config.variant,
        "flow": config.flow,
        "context": config.context,
        "backprop": config.backprop,
        "compute_dtype": config.compute_dtype,
        "device": card._asdict(),
        "scale": scale._asdict(),
        "assumed": assumed._asdict(),
        "memory_analysis": "XLA" if compiled else "flow",
        "steps": steps,
        "step_s": seconds,
        "training": estimate.training(seconds, scale, assumed),
        "evaluation": _evaluation(config, steps, scale, seconds),
        "loader": estimate.loader(seconds, record, scale, assumed),
        "dataset": estimate.dataset(record, scale),
        "checkpoint": estimate.checkpoint(bytes_of, every, seconds, assumed),
        "device_memory": estimate.device_memory(bytes_of, activations, on_device, card),
    }


def _step(
    config: Config,
    name: str,
    card: Card,
    scale: Scale,
    assumed: Assumptions,
    bytes_of: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """Returns the arithmetic of a model's step and its seconds, by what they are spent on."""
    devices = scale.devices
    on_each = step_work.work(config, name, devices, "cpu" if card.name == HERE else "cuda")
    parts = estimate.step_seconds(on_each, card, assumed.efficiency)
    gradients = bytes_of[name]["parameters"]
    parts["all_reduce"] = estimate.all_reduce_seconds(gradients, devices, card, assumed)
    return {
        "gflop": step_work.arithmetic(config, name, on_each, devices)._asdict(),
        "traffic_gb_per_device": 1e-9 * on_each.traffic,
        "kernels": on_each.kernels,
        "seconds": parts,
        "total_s": sum(parts.values()),
    }


def _evaluation(
    config: Config, steps: dict[str, Any], scale: Scale, seconds: float
) -> dict[str, float]:
    """Returns the cost of the validations in training, and of scoring all validation clips."""
    alone = {n: step["total_s"] - step["seconds"]["all_reduce"] for n, step in steps.items()}
    shares = {name: step_work.clip_share(config, name) for name in steps}

    def of(videos: int) -> float:
        return estimate.evaluation_seconds(alone, shares, scale, videos)

    once = of(min(config.eval_videos, scale.validation_clips))
    return {
        "validation_s": once,
        "validation_share_of_training": once / (config.eval_every * seconds),
        "all_validation_clips_hours": of(scale.validation_clips) / 3600,
    }


def text(plan: dict[str, Any]) -> str:
    """Returns the plan as text in Markdown; (*) marks what rests on an assumption."""
    return "\n\n".join(
        [_heading(plan), _steps_table(plan), _table(_rows(plan)), _assumptions(plan)]
    )


def _heading(plan: dict[str, Any]) -> str:
    scale, device = plan["scale"], plan["device"]
    return (
        f"--preset={plan['preset']} --variant={plan['variant']} --backprop={plan['backprop']} "
        f"--compute_dtype={plan['compute_dtype']}: {plan['flow']} flow, {plan['context']} context\n"
        f"{scale['devices']} x {device['name']}, {scale['batch_size']} clips per step, "
        f"{scale['clips']:,} training and {scale['validation_clips']:,} validation clips"
    )


def _steps_table(plan: dict[str, Any]) -> str:
    rows = [("per step", *plan["steps"])]
    gflops = {
        "GFLOP of matrix products": "total",
        "- the flow": "flow",
        "- the context encoder": "encoder",
        "- the rest": "other",
    }
    for label, key in gflops.items():
        rows.append((label, *(_number(s["gflop"][key]) for s in plan["steps"].values())))
    seconds = {
        "ms of matrix products (*)": "products",
        "ms of elementwise arithmetic": "elementwise",
        "ms of putting windows together": "windows",
        "ms of memory traffic": "traffic",
        "ms of starting kernels (*)": "kernels",
        "ms of averaging gradients (*)": "all_reduce",
    }
    for label, key in seconds.items():
        values = (1000 * s["seconds"][key] for s in plan["steps"].values())
        rows.append((label, *map(_number, values)))
    totals = (1000 * step["total_s"] for step in plan["steps"].values())
    rows.append(("ms in all", *map(_number, totals)))
    return _table(rows)


def _rows(plan: dict[str, Any]) -> list[tuple[str, ...]]:
    training, evaluation = plan["training"], plan["evaluation"]
    loader, saved, memory = plan["loader"], plan["checkpoint"], plan["device_memory"]
    rows = [("the whole", ""), ("seconds per step of all models", _number(plan["step_s"]))]
    rows.append(("clips per second", _number(loader["records_needed_per_s"])))
    for name, label in (("pass", "one pass"), ("run", "the run")):
        figures = [f"{training[f'{name}_steps']:,} steps"]
        figures.append(f"{_number(training[f'{name}_hours'])} hours")
        figures.append(f"{_number(training[f'{name}_device_hours'])} device hours")
        if f"{name}_price" in training:
            figures.append(f"a price of {_number(training[f'{name}_price'])}")
        rows.append((label, ", ".join(figures)))
    needed, given = (loader[f"records_{verb}_per_s_and_host"] for verb in ("needed", "delivered"))
    enough = "enough" if given >= needed else "TOO FEW"
    parts = [f"{part} {_number(saved[f'{part}_gb'])}" for part in ("parameters", "average")]
    parts.append(f"optimiser {_number(saved['optimiser_gb'])}")
    steps = [f"{n} step {_number(memory[f'{n}_step_gb'])}" for n in plan["steps"]]
    fits = "fits" if memory["fits"] else "DOES NOT FIT"
    return [
        *rows,
        ("a validation (*)", f"{_number(evaluation['validation_s'])} s, "
         f"{evaluation['validation_share_of_training']:.1%} of the training"),
        ("scoring all validation clips (*)",
         f"{_number(evaluation['all_validation_clips_hours'])} hours"),
        ("records per second and host", f"{_number(needed)} needed, {_number(given)} delivered "
         f"(*): {enough}, on {loader['hosts']} hosts"),
        ("host memory of the loader", f"{_number(loader['host_memory_gb'])} GB"),
        ("dataset on disk, at most", f"{_number(plan['dataset']['training_gb'])} GB and "
         f"{_number(plan['dataset']['validation_gb'])} GB for validation"),
        ("checkpoint", f"{_number(saved['total_gb'])} GB ({', '.join(parts)})"),
        ("time to write it (*)", f"{_number(saved['write_s'])} s, at most "
         f"{saved['write_share_if_waited_for']:.2%} of the training"),
        ("memory of a device", f"{_number(memory['total_gb'])} of {memory['of_device_gb']:.4g} GB "
         f"(states {_number(memory['states_gb'])}, {', '.join(steps)}): {fits}"),
    ]  # fmt: skip


def _assumptions(plan: dict[str, Any]) -> str:
    device, assumed = plan["device"], plan["assumed"]
    peak = {k: f"{device[k] / 1e12:.4g}" for k in ("product_flop", "low_product_flop")}
    counted = (
        "XLA's analysis of the compiled step on this machine's CPU"
        if plan["memory_analysis"] == "XLA"
        else "the flow's own count of activations (--compile: XLA's analysis)"
    )
    return (
        f"(*) Assumed: matrix products reach {assumed['efficiency']:g} of the peak "
        f"({peak['product_flop']} TFLOP/s, in bfloat16 {peak['low_product_flop']}; "
        f"{device['source']}); nothing overlaps; a kernel starts every "
        f"{1e6 * device['kernel_s']:g} us; links carry {device['link'] / 1e9:.4g} GB/s in a host "
        f"of {assumed['devices_per_host']} devices and {assumed['network'] / 1e9:g} GB/s per "
        f"device between hosts; checkpoints are written at {assumed['disk'] / 1e9:g} GB/s; a "
        f"loader delivers {assumed['loader'] / 1e6:,.0f} MB of decoded clips per second; scoring a "
        f"frame takes a third of training on it. Memory of a step: {counted}."
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
