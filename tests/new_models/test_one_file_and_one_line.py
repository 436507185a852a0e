"""A new flow, a new context encoder and a new conditioning are one file and one line each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY

from flowvid.paths import MARKER

pytest_plugins = ["system_fixtures"]

HERE = Path(__file__).parent
# What a newcomer would add to the tables, one line each; the rest of flowvid is as it is.
LINES = {
    "flow": "from toy_flow import ToySettings; FLOWS['toy'] = ToySettings",
    "context": "from toy_context import ToyContextSettings; CONTEXTS['toy'] = ToyContextSettings",
    "conditioning": "VARIANTS['label_in_tail'] = Variant("
    "True, Sees(label=True), Sees(label=True, previous=True, state=True))",
}
# Modules read the tables when they are imported, so this needs a process of its own, which runs
# several entry points, since importing takes long.
START = """
import contextlib, io, json, runpy, sys
from absl import flags
from flowvid.conditioning.sees import Sees
from flowvid.conditioning.table import CONTEXTS
from flowvid.config.variants import VARIANTS, Variant
from flowvid.flows.table import FLOWS
{lines}
results = []
for name, *args in json.loads(sys.argv[1]):
    sys.argv, printed = [name, *args], io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
    results.append((code, printed.getvalue()))
    flags.FLAGS.unparse_flags()
    for flag in list(flags.FLAGS):  # the next entry point defines its own
        if "flowvid" in flags.FLAGS.find_module_defining_flag(flag):
            delattr(flags.FLAGS, flag)
print(json.dumps(results))
"""


def run(*commands):
    """The exit codes and outputs of entry points of a flowvid with the lines added."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(lines="\n".join(LINES.values())), json.dumps(commands)],
        env=None,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(autouse=True)
def toys_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def sizes(data_dir, without=()):
    fields = {name: value for name, value in TINY.items() if name not in without}
    return [f"--{name}={value}" for name, value in {**fields, "data_dir": data_dir}.items()]


OF_GLOW, OF_PYRAMID = ("head_steps", "tail_steps", "width"), ("state_size",)


@pytest.mark.parametrize(
    ("flow", "context", "variant"),
    [
        ("glow", "toy", "label_in_tail"),
        ("toy", "pyramid", "label_in_tail"),
    ],
)
def test_it_trains_evaluates_and_samples(flow, context, variant, data_dir, tmp_path):
    without = OF_GLOW * (flow != "glow") + OF_PYRAMID * (context != "pyramid")
    chosen = [f"--flow={flow}", f"--context={context}", f"--variant={variant}"]
    own = ["--toy_start=0.25"] * (flow == "toy") + ["--toy_memory=0.75"] * (context == "toy")
    workdir, out_dir = f"--workdir={tmp_path / 'run'}", tmp_path / "samples"
    results = run(
        ("flowvid.train", workdir, *chosen, *own, *sizes(data_dir, without)),
        ("flowvid.evaluate", workdir, "--num_videos=2", "--noise_draws=1"),
        ("flowvid.sample", workdir, "--num_videos=1", f"--out={out_dir}"),
    )
    assert [code for code, _ in results] == [0, 0, 0], results
    assert "is trained to step 4" in results[0][1]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["flow"], config["context"]) == (flow, context)
    if flow == "toy":
        assert config["flow_settings"] == {"toy_start": 0.25}
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["metrics"]["5-bit"]["tail"]["bits_per_dim"] > 0
    assert report["labels"]["num_labels"] == 8
    assert {path.name for path in out_dir.iterdir()} == {MARKER, "000.gif", "samples.png"}


def test_its_flags_have_help_and_belong_to_it(tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    (code, out), *refused = run(
        ("flowvid.train", "--help"),
        ("flowvid.train", workdir, "--flow=toy", "--context=toy", "--coupling=affine"),
        ("flowvid.train", workdir, "--toy_start=2"),
    )
    assert code == 0
    for expected in (
        "Flow (toy)\n  --toy_start:",
        "Context (toy)\n  --toy_memory:",
        "<glow|mixture|toy>",
    ):
        assert expected in out
    assert [code for code, _ in refused] == [1, 1]
    assert "--coupling belongs to --flow=glow, but this run has --flow=toy" in refused[0][1]
    assert "--toy_start belongs to --flow=toy, but this run has --flow=glow: leave" in refused[1][1]
