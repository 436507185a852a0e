"""One page about a run: `python -m experiments.report --workdir=runs/state_label`.

Configuration, curves, likelihoods beside trivial answers, and looping videos: samples beside real
clips and beside the training clips nearest to them, continuations, a sweep of temperatures. One
HTML file, report.html in --workdir, that loads nothing from anywhere.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jinja2
import numpy as np
from absl import flags
from markupsafe import Markup

import flowvid
from experiments import comparison, report_parts, run_data
from experiments.report_parts import Section, clip
from flowvid import cli
from flowvid.data import datasets
from flowvid.errors import TrainingError
from flowvid.evaluation import text_report
from flowvid.video.model import Model

_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
_OUT = flags.DEFINE_string("out", None, "File to write. [<workdir>/report.html]")
_SAMPLES = flags.DEFINE_integer("samples", 16, "Videos to generate from nothing.", 1)
_CONTINUED = flags.DEFINE_integer("continued", 8, "Held-out clips to continue.", 0)
_NUM_GIVEN = flags.DEFINE_integer("num_given", 4, "Frames of these that are given.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.7, "Of samples and continuations.", 0.0)
_SWEEP = flags.DEFINE_list("sweep", ["0", "0.5", "0.7", "0.85", "1"], "Temperatures to compare.")
_COMPARISON = flags.DEFINE_string(
    "comparison", None, "Folder of experiments.compare, to be shown, too. [none]"
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the samples.", 0, 2**32 - 1)

_SIDE = 128  # pixels of a clip in the page


def _saved_evaluation(path: pathlib.Path, step: int) -> text_report.Report | None:
    """That of the step, if it is there and this version wrote it."""
    if not path.exists():
        return None
    report: text_report.Report = json.loads(path.read_text())
    try:
        text_report.format_report(report)
    except KeyError:  # an older version's has less in it
        return None
    return report if report["step"] == step else None


def evaluated(workdir: pathlib.Path, model: Model) -> text_report.Report:
    """The evaluation of the run's last step, made now if it is not there.

    Raises:
        TrainingError: when it cannot be made.
    """
    path = workdir / "evaluation.json"
    report = _saved_evaluation(path, model.step)
    if report is None:
        command = [sys.executable, "-m", "flowvid.evaluate", f"--workdir={workdir}"]
        if subprocess.run(command).returncode:
            raise TrainingError(f"{' '.join(command)} has failed: see above.")
        report = json.loads(path.read_text())
    return report


def _labelled(model: Model) -> bool:
    return model.config.ablation.uses_labels


def _real_of(model: Model, held_out: datasets.Dataset, labels: list[str]) -> list[np.ndarray]:
    """A held-out clip for each sample: of its label where the model has any, else in order."""
    used: set[int] = set()
    chosen = []
    names = [held_out.label_names[int(held_out[i]["label"])] for i in range(len(held_out))]
    for label in labels:
        fitting = [i for i, name in enumerate(names) if name == label and i not in used]
        free = [i for i in range(len(held_out)) if i not in used] or [0]
        pick = fitting[0] if _labelled(model) and fitting else free[0]
        used.add(pick)
        chosen.append(held_out[pick]["video"])
    return chosen


def from_nothing(model: Model, train: datasets.Dataset, held_out: datasets.Dataset) -> Section:
    """Samples, each beside a real clip and the nearest training clip."""
    samples = model.sample(_SAMPLES.value, temperature=_TEMPERATURE.value, seed=_SEED.value)
    generated, finite = map(np.asarray, samples)
    kept = np.flatnonzero(finite)
    labels = [model.turns(_SAMPLES.value)[i] for i in kept]
    real = np.stack(_real_of(model, held_out, labels))
    videos = generated[kept]
    near = report_parts.nearest(videos, train, "nearest training clips")
    typical = np.median(report_parts.nearest(real, train, "the same for real clips").distance)
    rows = [
        [
            clip(video, f"generated, {label}" if _labelled(model) else "generated"),
            clip(beside, "real, held out"),
            clip(train[int(index)]["video"], f"nearest in training, {distance:.1f} away"),
        ]
        for video, label, beside, index, distance in zip(videos, labels, real, *near, strict=True)
    ]
    pairs = [[c for row in rows[i : i + 2] for c in row] for i in range(0, len(rows), 2)]
    lost = len(finite) - len(kept)
    text = (
        f"Temperature {_TEMPERATURE.value}. Distances are root mean squares over all pixels of a "
        f"clip, in grey levels; the real held-out clips shown are {typical:.1f} from their nearest "
        "training clip (median). A sample that is much nearer would be a copy."
    )
    if lost:
        text += f" {lost} samples were not finite and are left out."
    return Section("Generated from nothing", text, pairs)


def continued(model: Model, held_out: datasets.Dataset) -> Section:
    """Held-out clips, and how the model goes on from their first frames."""
    count = min(_CONTINUED.value, len(held_out))
    real = np.stack([held_out[i]["video"] for i in range(count)])
    given = min(_NUM_GIVEN.value, real.shape[1] - 1)
    samples = model.sample(
        count,
        num_frames=real.shape[1],
        temperature=_TEMPERATURE.value,
        first_frames=real[:, :given],
        seed=_SEED.value,
    )
    generated, finite = map(np.asarray, samples)
    pairs = [
        [clip(real[i], "real"), clip(generated[i], f"continued from {given}")]
        for i in np.flatnonzero(finite)
    ]
    rows = [[c for pair in pairs[i : i + 3] for c in pair] for i in range(0, len(pairs), 3)]
    text = f"Held-out clips beside the model's own way from their first {given} frames on."
    return Section("Continued", text, rows)


def sweep(model: Model) -> Section:
    """The same latents at several temperatures, a row each."""
    rows = []
    for temperature in map(float, _SWEEP.value):
        samples = model.sample(6, temperature=temperature, seed=_SEED.value)
        videos, finite = map(np.asarray, samples)
        rows.append([clip(video, f"temperature {temperature:g}") for video in videos[finite]])
    text = "The same random numbers in every row, scaled: what they are worth, and where it breaks."
    return Section("Temperature", text, rows)


def page(workdir: pathlib.Path) -> str:
    """The whole page."""
    model = flowvid.load(workdir)
    report = evaluated(workdir, model)
    train, held_out = (run_data.split_of(model.config, s) for s in ("train", "validation"))
    sections = [from_nothing(model, train, held_out)]
    if "tail" in model.config.models and _CONTINUED.value:
        sections.append(continued(model, held_out))
    sections.append(sweep(model))
    if _COMPARISON.value:
        sections.append(comparison.section(pathlib.Path(_COMPARISON.value)))
    template = pathlib.Path(__file__).with_name("report_template.html").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        title=f"{model.config.variant} on {model.config.dataset}",
        summary=f"{workdir}, step {model.step}, {model.config.preset} preset.",
        configuration=dataclasses.asdict(model.config),
        likelihood=text_report.format_report(report),
        per_frame=Markup(report_parts.per_frame(report)),
        curves=Markup(report_parts.curves(workdir, model.config)),
        sections=sections,
        side=_SIDE,
    )


def main() -> None:
    """Makes the page, and says where it is."""
    workdir = pathlib.Path(_WORKDIR.value)
    out = pathlib.Path(_OUT.value or workdir / "report.html")
    text = page(workdir)
    out.write_text(text)
    print(f"{out}: {len(text) / 2**20:.1f} MB, open it in a browser.")


if __name__ == "__main__":
    cli.run(main)
