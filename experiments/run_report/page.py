"""Puts the report page together."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jinja2
from markupsafe import Markup

import flowvid
from experiments.run_report import evaluation, plots, sections
from experiments.running import finished_runs
from flowvid.config import making
from flowvid.evaluation import text_report

_SIDE = 128  # pixels of a clip in the page


class Contents(NamedTuple):
    """What the page shows beside the numbers."""

    samples: int  # videos generated from nothing
    continued: int  # held-out clips to continue
    num_given: int  # frames of these that the model is given
    temperature: float | None  # None for the flow's default
    sweep: Sequence[float]  # temperatures to compare
    comparison: pathlib.Path | None  # what `experiments.compare` wrote
    obedience: pathlib.Path | None  # what `experiments.obedience` wrote
    prediction: pathlib.Path | None  # what `experiments.prediction` wrote
    seed: int


def render(workdir: pathlib.Path, contents: Contents) -> str:
    """Returns the page about a run as HTML that loads nothing from anywhere.

    Raises:
        ConfigError: when the folder holds no run, or what is to be shown is of another dataset.
        TrainingError: when the run's checkpoint cannot be read, or a likelihood is non-finite.
    """
    model = flowvid.load(workdir)
    train, held_out = (finished_runs.load_split(model.config, s) for s in ("train", "validation"))
    temperature, seed = contents.temperature, contents.seed
    shown = []  # first, since they may be refused
    if contents.obedience is not None:
        shown.append(sections.obeyed(contents.obedience, model.config.dataset))
    if contents.comparison is not None:
        shown.append(sections.compared(contents.comparison, model.config.dataset))
    if contents.prediction is not None:
        shown.append(sections.predicted(contents.prediction, model.config.dataset))
    report = evaluation.evaluation_of(workdir, model, train, held_out)
    parts = [
        sections.from_nothing(
            model,
            train,
            held_out,
            num_samples=contents.samples,
            temperature=temperature,
            seed=seed,
        )
    ]
    if "tail" in model.config.models and contents.continued:
        parts.append(
            sections.continued(
                model,
                held_out,
                num_clips=contents.continued,
                num_given=contents.num_given,
                temperature=temperature,
                seed=seed,
            )
        )
    parts.append(sections.temperatures(model, contents.sweep, seed))
    template = pathlib.Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        title=f"{model.config.variant} on {model.config.dataset}",
        summary=f"{workdir}, step {model.step}, {model.config.preset} preset.",
        configuration=making.flat(model.config),
        likelihood=text_report.format_report(report),
        per_frame=Markup(plots.per_frame(report)),
        curves=Markup(plots.curves(workdir, model.config)),
        sections=parts + shown,
        side=_SIDE,
    )
