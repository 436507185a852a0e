"""What a full-size training would cost, before GPUs are rented: `python -m experiments.plan`.

Traces the training steps of a run, without compiling them, and counts their arithmetic, memory
traffic and kernels. With the published rates of a card it prints seconds per step, hours, memory,
and what loader, disks and links must do; assumptions are marked (*). All settings of a run are
flags, as in `flowvid.train`. With --check it predicts steps on one core of this machine from
its measured rates, in the same way, and compares them with measured steps.
"""

import json
from typing import Any

from absl import flags

from experiments.planning import cards, choices
from flowvid import cli, fields
from flowvid.config import command_line

command_line.define_flags()
_DEVICES = flags.DEFINE_integer("devices", 8, "Plan: number of devices.", lower_bound=1)
_DEVICE = flags.DEFINE_string(
    "device",
    "H100",
    f"Plan: the kind of device: {', '.join(cards.CARDS)}, or {cards.HERE}: one core of "
    "this machine, whose rates are measured.",
)
_CLIPS = flags.DEFINE_integer(
    "clips", 1_000_000, "Plan: training clips; the default is Moments in Time.", lower_bound=1
)
_VALIDATION_CLIPS = flags.DEFINE_integer(
    "validation_clips", 33_900, "Plan: validation clips.", lower_bound=1
)
_EFFICIENCY = flags.DEFINE_float(
    "efficiency",
    None,
    "Plan: share of the peak that matrix products reach. "
    f"[{choices.EFFICIENCY} for cards, 1 for measured rates]",
    0.001,
    1,
)
_KERNEL_US = flags.DEFINE_float(
    "kernel_us",
    None,
    "Plan: microseconds between the starts of two kernels. [4 for cards, 0 for this machine]",
    0.0,
)
_DEVICES_PER_HOST = flags.DEFINE_integer(
    "devices_per_host", 8, "Plan: devices of a host, which share its loader.", lower_bound=1
)
_NETWORK = flags.DEFINE_float(
    "network_gb_per_s", 25.0, "Plan: GB/s that a device sends to other hosts.", 0.001
)
_DISK = flags.DEFINE_float(
    "disk_gb_per_s", 1.0, "Plan: GB/s with which checkpoints are written.", 0.001
)
_LOADER = flags.DEFINE_float(
    "loader_mb_per_s",
    choices.LOADER_MB_PER_S,
    "Plan: decoded MB/s of each host's loader; the default is docs/data.md's figure for two cores.",
    0.001,
)
_PRICE = flags.DEFINE_float("price_per_hour", None, "Plan: price of a device per hour.", 0.0)
_COMPILE = flags.DEFINE_bool(
    "compile", False, "Plan: compile the steps, which takes minutes, for XLA's count of memory."
)
_MEASURE = flags.DEFINE_bool(
    "measure", False, "Plan: measure the loader of this machine, on generated clips of the size."
)
_CHECK = flags.DEFINE_bool(
    "check", False, "Check: measure steps on one core here, and compare them with predictions."
)
_CHECK_MODELS = flags.DEFINE_list("models", ["head", "tail"], "Check: models whose steps count.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Check: steps that are measured.", lower_bound=1)
_OUT = fields.path_flag("out", None, "Plan: JSON file to write. [none]")


def _assumed(given: dict[str, Any]) -> Any:
    """Returns the assumptions; the loader's is measured with --measure."""
    from experiments.planning import estimate
    from experiments.planning.here import loader_bytes_per_second

    return estimate.Assumptions(
        efficiency=choices.efficiency(_EFFICIENCY.value, _DEVICE.value),
        devices_per_host=_DEVICES_PER_HOST.value,
        network=1e9 * _NETWORK.value,
        disk=1e9 * _DISK.value,
        loader=loader_bytes_per_second(given) if _MEASURE.value else 1e6 * _LOADER.value,
        price_per_hour=_PRICE.value,
    )


def _plan(given: dict[str, Any], config: Any) -> dict[str, Any]:
    known = None if _DEVICE.value == cards.HERE else cards.find(_DEVICE.value)
    from experiments.planning import estimate, full_plan, here

    card = known or here.core()
    if _KERNEL_US.value is not None:
        card = card._replace(kernel_s=1e-6 * _KERNEL_US.value)
    scale = estimate.Scale(
        devices=_DEVICES.value,
        clips=_CLIPS.value,
        validation_clips=_VALIDATION_CLIPS.value,
        batch_size=config.batch_size,
        num_steps=config.num_steps,
    )
    return full_plan.make(config, card, scale, _assumed(given), _COMPILE.value)


def main() -> None:
    """Prints a plan, or with --check predicted beside measured steps, and writes it."""
    given = {"preset": "paper"} | command_line.flags_given()
    config = choices.config_of(given)
    if _CHECK.value:
        models = choices.models_of(_CHECK_MODELS.value, config)
        from experiments.planning import checking

        of_core = choices.efficiency(_EFFICIENCY.value, cards.HERE)
        result = checking.check(given, models, _ROUNDS.value, of_core)
        print(checking.text(result))
    else:
        result = _plan(given, config)
        from experiments.planning import full_plan

        print(full_plan.text(result))
    if _OUT.value:
        _OUT.value.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
