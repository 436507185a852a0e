"""Measures where the time of a training step on CPU goes: by kind of operation, and by network.

It uses one core: operations of several threads overlap, and their times would not add up.
"""

import collections
import pathlib
import re
import tempfile
from collections.abc import Sequence
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
_SCOPES = ("hindsight", "motion")  # those of `jax.named_scope`


def _operations(text: str) -> dict[str, str]:
    """Returns JAX's name of each operation that a compiled module's text has metadata for."""
    return dict(re.findall(r'%?([\w.-]+) = .*?metadata=\{op_name="([^"]*)"', text))


def _phase(op_name: str) -> str:
    return next(phase for phase, pattern in _PHASES if re.search(pattern, op_name))


def network_of(op_name: str) -> str:
    """Returns the outermost Flax module and the named scopes that an operation is in."""
    parts = re.findall(r"[A-Za-z_]\w*", op_name)
    modules = [part for part in parts if part[0].isupper()]
    named = [part for part in parts if part in (*_SCOPES, *modules[:1])]
    phase = _phase(op_name)
    other = "outside of networks" if phase in ("backward", "forward") else phase
    return ", ".join(dict.fromkeys(named)) or other


def profile(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Measures one step of "head" or "tail": its seconds, and those of its operations by group.

    Returns:
        {"step_s"; "named_s": those of all operations that have a name; "rows": of {"phase", "kind",
        "seconds"}; "networks": of {"network", "seconds"}}, the longest first.
    """
    config = costs.config_of(changes)
    batch = shard(costs.random_batch(config, config.batch_size))
    optimiser = trainer.optimisers(config)[name]
    params = costs.drawn_parameters(config)[name]
    current = replicate(train_state.create(config, params, optimiser))
    step = trainer.train_steps(config)[name].compile(current, batch)
    current, _ = jax.block_until_ready(step(current, batch))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            whole = costs.seconds(lambda: step(current, batch), 1)[0]
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(path))
    names = _operations(step.as_text())
    spent: collections.Counter[tuple[str, str]] = collections.Counter()
    by_network: collections.Counter[str] = collections.Counter()
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in names and not re.match(r"while|call|conditional", event.name):
                    kind = next(k for k, pattern in _KINDS if re.search(pattern, event.name))
                    op_name, took = names[event.name], event.duration_ns / 1e9
                    spent[_phase(op_name), kind] += took
                    by_network[network_of(op_name)] += took
    rows = [
        {"phase": phase, "kind": kind, "seconds": value}
        for (phase, kind), value in spent.most_common()
    ]
    networks = [{"network": n, "seconds": value} for n, value in by_network.most_common()]
    return {"step_s": whole, "named_s": sum(spent.values()), "rows": rows, "networks": networks}


def format_tables(profiled: dict[str, Any]) -> str:
    """Returns the profile as two Markdown tables, by phase and kind and by network.

    The last row of each has what no operation accounts for, and groups of little time.
    """
    of_kinds = [((r["phase"], r["kind"]), r["seconds"]) for r in profiled["rows"]]
    of_networks = [((r["network"],), r["seconds"]) for r in profiled["networks"]]
    whole = profiled["step_s"]
    return "\n\n".join([_table(of_kinds, whole), _table(of_networks, whole)])


def _table(groups: Sequence[tuple[tuple[str, ...], float]], whole: float) -> str:
    blank = ("",) * (len(groups[0][0]) - 1)
    rows = [(names, seconds) for names, seconds in groups if seconds > 0.002 * whole]
    rows.append(((*blank, "all else"), whole - sum(seconds for _, seconds in rows)))
    cells = [(*blank, "", "ms", "share"), ("---",) * (len(blank) + 3)]
    cells += [(*names, f"{1000 * s:,.0f}", f"{s / whole:.1%}") for names, s in rows]
    cells.append((*blank, "the whole step", f"{1000 * whole:,.0f}", ""))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
