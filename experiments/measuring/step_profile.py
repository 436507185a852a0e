"""Measures where the time of a training step on CPU goes, by groups of XLA's operations.

It uses one core: operations of several threads overlap, and their times would not add up.
"""

import collections
import pathlib
import re
import tempfile
from typing import Any

import jax

from experiments.measuring import costs
from flowvid.parallel.devices import replicate, shard
from flowvid.training import train_state, trainer

FLAGS = "--xla_cpu_enable_xprof_traceme=true --xla_cpu_multi_thread_eigen=false"
# The kind of an operation is the first whose pattern is in its name.
_KINDS = (
    ("matrix products", r"ynn_fusion|dot"),
    ("storing activations and gradients", r"dynamic-update-slice"),
    ("reading stored activations and parameters", r"dynamic-slice"),
    ("windows of 3x3 convolutions", r"pad|concatenate|slice"),
    ("sums", r"reduce"),
    ("filling with zeros", r"^(wrapped_)?broadcast(\.|$)"),
    ("copies", r"copy|transpose"),
    ("elementwise", r""),
)
_PHASES = (
    ("backward", r"transpose\(jvp"),
    ("forward", r"jvp\("),
    ("update of parameters", r""),
)


def _operations(text: str) -> dict[str, str]:
    """Returns the phase of each operation that a compiled module's text has metadata for."""
    found = re.findall(r'%?([\w.-]+) = .*?metadata=\{op_name="([^"]*)"', text)
    return {
        name: next(phase for phase, pattern in _PHASES if re.search(pattern, op_name))
        for name, op_name in found
    }


def profile(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Measures one step of "head" or "tail": its seconds, and those of each phase and kind."""
    config = costs.config_of(changes)
    batch = shard(costs.random_batch(config, config.batch_size))
    optimiser = trainer.optimisers(config)[name]
    params = costs.parameters(config)[name]
    current = replicate(train_state.create(config, params, optimiser))
    step = trainer.train_steps(config)[name].compile(current, batch)
    current, _ = jax.block_until_ready(step(current, batch))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            whole = costs.seconds(lambda: step(current, batch), 1)[0]
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(path))
    phases = _operations(step.as_text())
    spent: collections.Counter[tuple[str, str]] = collections.Counter()
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in phases and not re.match(r"while|call|conditional", event.name):
                    kind = next(k for k, pattern in _KINDS if re.search(pattern, event.name))
                    spent[phases[event.name], kind] += event.duration_ns / 1e9
    rows = [
        {"phase": phase, "kind": kind, "seconds": value}
        for (phase, kind), value in spent.most_common()
    ]
    return {"step_s": whole, "rows": rows, "named_s": sum(spent.values())}


def format_table(profiled: dict[str, Any]) -> str:
    """Returns the profile as Markdown; the last row has what no operation accounts for."""
    whole = profiled["step_s"]
    rows = [(r["phase"], r["kind"], r["seconds"]) for r in profiled["rows"]]
    rows = [row for row in rows if row[2] > 0.002 * whole]
    rows.append(("", "all else", whole - sum(row[2] for row in rows)))
    lines = ["| | | ms | share |", "|---|---|---|---|"]
    lines += [f"| {p} | {k} | {1000 * s:,.0f} | {s / whole:.1%} |" for p, k, s in rows]
    return "\n".join([*lines, f"| | the whole step | {1000 * whole:,.0f} | |"])
