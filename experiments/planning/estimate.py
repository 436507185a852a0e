"""From the work of a step and the rates of a device to hours, memory, disks and prices.

Plain arithmetic: nothing here is measured, traced or printed.
"""

import math
from typing import Any, NamedTuple

from experiments.planning.cards import Card
from experiments.planning.program import Work

RECORD_BUFFERS = 4  # records of each clip of a batch on the host: two in a queue, read and stacked
LEAST_RECORDS = 4  # the queue of the loader holds no fewer (`datasets.train_batches`)
PREFETCHED = 3  # batches on a device: the one in use, and two that wait (`trainer.to_devices`)


class Assumptions(NamedTuple):
    """What the plan takes for granted; each has a flag."""

    efficiency: float  # share of a card's peak that matrix products reach
    devices_per_host: int
    network: float  # bytes per second that a device sends to another host
    disk: float  # bytes per second that a checkpoint is written with
    loader: float  # decoded bytes per second of records that each host's loader delivers
    price_per_hour: float | None = None  # of one device


class Scale(NamedTuple):
    """How much is trained on how much."""

    devices: int
    clips: int
    validation_clips: int
    batch_size: int
    num_steps: int | None  # of the preset; None for one pass


def step_seconds(work: Work, card: Card, efficiency: float) -> dict[str, float]:
    """Returns the seconds of a device's step, by what they are spent on.

    They add up, as if nothing overlapped: {"products", "elementwise", "windows", "traffic",
    "kernels"}.
    """
    products = work.product_flop / card.product_flop + work.low_product_flop / card.low_product_flop
    if flop := work.product_flop + work.low_product_flop:
        slower = work.medium_flop * (1 / card.medium - 1) + work.narrow_flop * (1 / card.narrow - 1)
        products *= 1 + slower / flop
    elementwise = work.elementwise / card.elementwise + work.transcendental / card.transcendental
    return {
        "products": products / efficiency,
        "elementwise": elementwise,
        "windows": work.windows / card.windows,
        "traffic": work.traffic / card.traffic,
        "kernels": work.kernels * card.kernel_s,
    }


def all_reduce_seconds(size: float, devices: int, card: Card, assumed: Assumptions) -> float:
    """Returns the seconds in which a ring of devices averages gradients of so many bytes.

    Each device sends 2 (n - 1) / n of them, over the slowest link of the ring.
    """
    on_one_host = devices <= assumed.devices_per_host
    link = card.link if on_one_host else min(card.link, assumed.network)
    return 2 * (devices - 1) / devices * size / link


def training(seconds: float, scale: Scale, assumed: Assumptions) -> dict[str, float]:
    """Returns steps, hours, GPU hours and price of one pass, and of the preset's steps.

    Args:
        seconds: of a step of all models.
        scale: of the run.
        assumed: for the price.
    """
    of_pass = max(scale.clips // scale.batch_size, 1)
    found: dict[str, float] = {}
    for name, steps in (("pass", of_pass), ("run", scale.num_steps or of_pass)):
        hours = steps * seconds / 3600
        found |= {
            f"{name}_steps": steps,
            f"{name}_hours": hours,
            f"{name}_device_hours": hours * scale.devices,
        }
        if assumed.price_per_hour is not None:
            found[f"{name}_price"] = hours * scale.devices * assumed.price_per_hour
    return found


def loader(
    seconds: float, record_bytes: float, scale: Scale, assumed: Assumptions
) -> dict[str, float]:
    """Returns what the loader of each host must deliver and what it can, and what it holds."""
    hosts = math.ceil(scale.devices / assumed.devices_per_host)
    of_host = scale.batch_size / hosts
    queue = max(LEAST_RECORDS, 2 * of_host)
    return {
        "hosts": hosts,
        "records_needed_per_s": scale.batch_size / seconds,
        "records_needed_per_s_and_host": of_host / seconds,
        "records_delivered_per_s_and_host": assumed.loader / record_bytes,
        "host_memory_gb": 1e-9 * record_bytes * (queue + (RECORD_BUFFERS - 2) * of_host),
    }


def dataset(record_bytes: float, scale: Scale) -> dict[str, float]:
    """Returns the size of the decoded clips, which the records on disk do not exceed."""
    return {
        "training_gb": 1e-9 * record_bytes * scale.clips,
        "validation_gb": 1e-9 * record_bytes * scale.validation_clips,
    }


def checkpoint(
    of_models: dict[str, dict[str, int]], every: int, seconds: float, assumed: Assumptions
) -> dict[str, float]:
    """Returns the size of a checkpoint, the time to write it, and its share of the training.

    Args:
        of_models: bytes of each model's parts.
        every: steps between checkpoints.
        seconds: of a step of all models.
        assumed: for the disk.
    """
    parts = {
        part: 1e-9 * sum(model[part] for model in of_models.values())
        for part in ("parameters", "average", "optimiser")
    }
    total = sum(parts.values())
    write = 1e9 * total / assumed.disk
    return {
        **{f"{part}_gb": size for part, size in parts.items()},
        "total_gb": total,
        "write_s": write,
        "write_share_if_waited_for": write / (write + every * seconds),
    }


def device_memory(
    of_models: dict[str, dict[str, int]],
    activations: dict[str, float],
    batch_bytes: float,
    card: Card,
) -> dict[str, Any]:
    """Returns what a device holds: all states, and the larger step's gradients and activations.

    Args:
        of_models: bytes of each model's parts.
        activations: bytes that each model's step keeps.
        batch_bytes: of a device's share of a batch.
        card: the device.
    """
    states = sum(sum(parts.values()) for parts in of_models.values())
    steps = {n: of_models[n]["parameters"] + kept for n, kept in activations.items()}
    total = 1e-9 * (states + PREFETCHED * batch_bytes + max(steps.values()))
    return {
        "states_gb": 1e-9 * states,
        "batches_gb": 1e-9 * PREFETCHED * batch_bytes,
        **{f"{name}_step_gb": 1e-9 * size for name, size in steps.items()},
        "total_gb": total,
        "of_device_gb": card.memory_gb,
        "fits": total <= card.memory_gb,
    }


def evaluation_seconds(
    step_s: dict[str, float], shares: dict[str, float], scale: Scale, videos: int
) -> float:
    """Returns the seconds to score so many clips: a third of a step for each frame of theirs.

    Args:
        step_s: seconds of each model's step, without the exchange of gradients.
        shares: what a step of a clip models, of all that its likelihood has.
        scale: of the run.
        videos: how many.
    """
    of_batch = sum(seconds / shares[name] / 3 for name, seconds in step_s.items())
    return of_batch * videos / scale.batch_size
