"""The table of faults: what is tried, what is expected, and what was observed."""

import pathlib
import signal
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from experiments.faults import bad_data, signals, starts, storage
from experiments.faults.drill import Drill
from experiments.faults.processes import Failed, Setup, Skipped
from flowvid.errors import ConfigError


class Fault(NamedTuple):
    """A row of the table; `run` returns what was observed, or raises `Failed` or `Skipped`."""

    name: str
    fault: str
    expected: str
    run: Callable[[Drill], str]


_SAME = "same bits as the uninterrupted run"
FAULTS = (
    Fault("kill", "SIGKILL at random moments, 1 device", _SAME, signals.kill_at_random_moments),
    Fault(
        "kill2",
        "SIGKILL at random moments, 2 devices",
        _SAME,
        lambda drill: signals.kill_at_random_moments(drill, Setup(devices=2)),
    ),
    Fault("kill_save", "SIGKILL during a save", _SAME, signals.kill_during_save),
    Fault(
        "kill_hosts",
        "SIGKILL of one of 2 processes with 2 devices each",
        f"the other one ends, too; {_SAME}",
        lambda drill: signals.kill_at_random_moments(drill, Setup(devices=2, processes=2)),
    ),
    Fault("sigterm", "SIGTERM", f"saved, exit code 143; {_SAME}", signals.stop(signal.SIGTERM)),
    Fault("sigint", "SIGINT", f"saved, exit code 130; {_SAME}", signals.stop(signal.SIGINT)),
    Fault(
        "poison",
        "NaN in one step, and a kill",
        f"step skipped, batch kept; {_SAME}",
        bad_data.poison_one_step,
    ),
    Fault(
        "poison_row",
        "NaN in steps in a row, and a kill",
        f"checkpoint restored, data skipped; {_SAME}",
        bad_data.poison_in_a_row,
    ),
    Fault(
        "poison_all",
        "NaN in all steps from one on",
        "run given up, checkpoints readable",
        bad_data.poison_all,
    ),
    Fault(
        "truncated",
        "newest checkpoint truncated",
        f"resumed from the one before; {_SAME}",
        storage.damage(storage.truncate),
    ),
    Fault(
        "empty",
        "a file of the newest checkpoint empty",
        f"resumed from the one before; {_SAME}",
        storage.damage(storage.empty),
    ),
    Fault(
        "missing",
        "a file of the newest checkpoint missing",
        f"resumed from the one before; {_SAME}",
        storage.damage(pathlib.Path.unlink),
    ),
    Fault(
        "disk",
        "disk full (tmpfs)",
        f"reported, checkpoints readable; {_SAME}",
        storage.full_disk,
    ),
    Fault(
        "second",
        "second process in the same folder",
        f"refused; the first has {_SAME}",
        starts.second_process,
    ),
    Fault("config", "another configuration", "refused, fields named", starts.other_configuration),
    Fault("devices", "2 devices, then 1", "resumed; same to float accuracy", starts.fewer_devices),
)


def chosen(names: Sequence[str] | None) -> tuple[Fault, ...]:
    """Returns the faults of these names; all for None.

    Raises:
        ConfigError: for an unknown name.
    """
    known = [fault.name for fault in FAULTS]
    if unknown := [name for name in names or () if name not in known]:
        raise ConfigError(f"--only={unknown[0]} is unknown: use some of {', '.join(known)}.")
    return tuple(fault for fault in FAULTS if names is None or fault.name in names)


def run(drill: Drill, faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Tries faults, one after another, and returns the rows of the table."""
    rows = []
    bar = tqdm(faults, desc="fault drill", unit="fault")
    for fault in bar:
        bar.set_postfix_str(fault.name)
        start = time.monotonic()
        try:
            observed, result = fault.run(drill), "pass"
        except Failed as error:
            observed, result = str(error), "FAIL"
        except Skipped as error:
            observed, result = str(error), "skip"
        rows.append(
            {
                "name": fault.name,
                "fault": fault.fault,
                "expected": fault.expected,
                "observed": observed,
                "result": result,
                "seconds": round(time.monotonic() - start, 1),
            }
        )
    return rows


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the table for the terminal, with wrapped cells."""
    widths = {"name": 10, "fault": 24, "expected": 28, "observed": 42, "result": 6, "seconds": 7}

    def lines(row: dict[str, Any]) -> Iterator[str]:
        cells = [textwrap.wrap(str(row[name]), width) for name, width in widths.items()]
        for i in range(max(map(len, cells))):
            parts = (cell[i] if i < len(cell) else "" for cell in cells)
            yield "  ".join(
                f"{part:{width}}" for part, width in zip(parts, widths.values(), strict=True)
            ).rstrip()

    titles = {name: name for name in widths}
    return "\n".join(line for row in (titles, *rows) for line in lines(row))
