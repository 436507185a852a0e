"""What accelerators can do according to their makers, to plan with cards that are not at hand."""

from typing import NamedTuple

from flowvid.errors import ConfigError, nearest_first

_KERNEL_S = 4e-6  # about what a GPU takes to start a kernel that does next to nothing
HERE = "this"  # the name of one core of the machine that plans, whose rates are measured


class Card(NamedTuple):
    """The largest rates of a device, per second, and its memory.

    Attributes:
        name: of `CARDS`, or `HERE`.
        product_flop: matrix products of float32 numbers; on GPUs in TF32, which JAX uses for them
            by default. Dense: NVIDIA's figures with sparsity are twice as large.
        low_product_flop: the same in bfloat16.
        medium: the share of these rates in products whose smallest dimension is 32 to 127. Makers
            give none, so it is 1 for their cards, and --efficiency has to account for it.
        narrow: the same of products whose smallest dimension is below 32.
        elementwise: results of other arithmetic in float32. Makers give FLOP with a multiply-add
            counted as two, so it is half of these.
        windows: numbers that are put together, one of which GPUs move as fast as they add.
        transcendental: exponentials and the like.
        traffic: bytes read from or written to the device's memory.
        link: bytes that a device sends to another one of its host.
        memory_gb: 10^9 bytes.
        kernel_s: seconds between the starts of two kernels; an assumption, not a maker's figure.
        source: where the figures are from.
    """

    name: str
    product_flop: float
    low_product_flop: float
    medium: float
    narrow: float
    elementwise: float
    windows: float
    transcendental: float
    traffic: float
    link: float
    memory_gb: float
    kernel_s: float
    source: str


def _gpu(
    name: str,
    tflops: tuple[float, float, float],
    gb_per_s: tuple[float, float],
    memory_gb: float,
    source: str,
) -> Card:
    """Returns a GPU.

    Args:
        name: of the card.
        tflops: TFLOP/s of products in TF32 and in bfloat16, and of float32 without tensor cores.
        gb_per_s: of the memory, and of the link to other GPUs in one direction.
        memory_gb: of the card.
        source: of these.
    """
    tf32, bfloat16, float32 = (1e12 * value for value in tflops)
    memory, link = (1e9 * value for value in gb_per_s)
    # A multiprocessor has 16 units for exponentials beside 64 to 128 for multiply-adds.
    return Card(
        name=name,
        product_flop=tf32,
        low_product_flop=bfloat16,
        medium=1.0,
        narrow=1.0,
        elementwise=float32 / 2,
        windows=float32 / 2,
        transcendental=float32 / 16,
        traffic=memory,
        link=link,
        memory_gb=memory_gb,
        kernel_s=_KERNEL_S,
        source=source,
    )


_ALL = (
    _gpu("A100", (156, 312, 19.5), (2039, 300), 80, "NVIDIA A100 data sheet, 80 GB SXM"),
    _gpu("H100", (494.7, 989.4, 66.9), (3350, 450), 80, "NVIDIA H100 data sheet, SXM5"),
    _gpu("H200", (494.7, 989.4, 66.9), (4800, 450), 141, "NVIDIA H200 data sheet, SXM"),
    _gpu(
        "RTX_4090",
        (82.6, 165.2, 82.6),
        (1008, 32),
        24,
        "NVIDIA Ada architecture white paper; the link is PCIe 4.0 x16",
    ),
)
CARDS: dict[str, Card] = {card.name: card for card in _ALL}


def find(name: str) -> Card:
    """Returns a card by its name, in which case and "_", "-" or spaces do not matter.

    Raises:
        ConfigError: for an unknown card; the message lists the known ones.
    """
    plain = {_plain(known): card for known, card in CARDS.items()}
    if _plain(name) not in plain:
        known = ", ".join([*nearest_first(name, list(CARDS)), HERE])
        raise ConfigError(f"--device={name} is unknown: use one of {known}.")
    return plain[_plain(name)]


def of_this_core(rates: dict[str, float], memory_gb: float) -> Card:
    """Returns one core of this machine, of rates that were measured (`rates`)."""
    return Card(
        name=HERE,
        product_flop=rates["product_flop"],
        low_product_flop=rates["product_flop"],
        medium=min(rates["medium_flop"] / rates["product_flop"], 1.0),
        narrow=min(rates["narrow_flop"] / rates["product_flop"], 1.0),
        elementwise=rates["elementwise"],
        windows=rates["windows"],
        transcendental=rates["transcendental"],
        traffic=rates["traffic"],
        link=rates["traffic"],
        memory_gb=memory_gb,
        kernel_s=0.0,
        source="measured on one core just now",
    )


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
