"""What the report page is made of: clips as data in the page, curves, nearest training clips."""

import base64
import io
import pathlib
import tempfile
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from experiments import run_data
from experiments.plotting import pyplot
from flowvid.config.schema import Config
from flowvid.data import datasets, media

Video = UInt8[np.ndarray, "time height width 3"]
Videos = UInt8[np.ndarray, "videos time height width 3"]


class Clip(NamedTuple):
    """A video or a single image in the page, with what is written below it."""

    uri: str
    caption: str
    is_video: bool


class Section(NamedTuple):
    """A part of the page: rows of clips under a title, a sentence and perhaps a table."""

    title: str
    text: str
    rows: list[list[Clip]]
    table: str = ""


def clip(video: Video, caption: str, fps: int = 10) -> Clip:
    """A looping video, or an image of a single frame, as a data URI."""
    is_video = len(video) > 1
    suffix, kind = (".webm", "video/webm") if is_video else (".png", "image/png")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"clip{suffix}"
        if is_video:
            media.write_video(path, video, fps, scale=1)
        else:
            media.write_image(path, video[0])
        encoded = base64.b64encode(path.read_bytes()).decode()
    return Clip(f"data:{kind};base64,{encoded}", caption, is_video)


class Nearest(NamedTuple):
    """The nearest of a split's clips to each of some videos, and how far it is."""

    clips: Int[np.ndarray, " videos"]  # their numbers in the split
    distance: Float[np.ndarray, " videos"]  # root mean square over all pixels, in grey levels


def nearest(videos: Videos, dataset: datasets.Dataset, title: str) -> Nearest:
    """Looks through a whole split for the clip that is nearest to each video."""
    wanted = videos.reshape(len(videos), -1).astype(np.float32)
    best = np.full(len(videos), np.inf)
    index = np.zeros(len(videos), int)
    with tqdm(total=len(dataset), desc=title, unit="clip", leave=False) as bar:
        for batch in datasets.eval_batches(dataset, batch_size=64):
            clips = batch["video"].reshape(len(batch["video"]), -1).astype(np.float32)
            # |a - b|^2 = |a|^2 - 2 ab + |b|^2: one matrix product for all pairs.
            squares = (wanted**2).sum(1)[:, None] + (clips**2).sum(1) - 2 * wanted @ clips.T
            here = squares.argmin(axis=1)
            closer = squares[np.arange(len(videos)), here] < best
            best[closer] = squares[np.arange(len(videos)), here][closer]
            index[closer] = batch["index"][here][closer]
            bar.update(int(batch["mask"].sum()))
    return Nearest(index, np.sqrt(np.maximum(best, 0) / wanted.shape[1]))


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.tight_layout()
    figure.savefig(text, format="svg")
    pyplot().close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _panels(count: int) -> Any:
    figure, panels = pyplot().subplots(1, count, figsize=(5.2 * count, 3.4), squeeze=False)
    for panel in panels[0]:
        panel.grid(alpha=0.3)
    return figure, panels[0]


def per_frame(report: dict[str, Any]) -> str:
    """Bits per dimension of each frame under each metric, as SVG; "" for single images."""
    if not any(of_metric["tail"] for of_metric in report["metrics"].values()):
        return ""
    figure, (panel,) = _panels(1)
    for name, of_metric in report["metrics"].items():
        bits = [of_metric["head"]["bits_per_dim"], *of_metric["tail"]["per_frame"]]
        panel.plot(range(len(bits)), bits, "o-", markersize=3, label=f"{name} metric")
    panel.set(xlabel="frame (0: the head's)", ylabel="bits per dimension")
    panel.legend()
    return _svg(figure)


def curves(workdir: pathlib.Path, config: Config) -> str:
    """Bits per dimension and gradient norms over steps, as SVG; "" for a run without steps."""
    bits = f"bits_per_dim_{config.metric.name}"
    of_run = run_data.scalars(workdir)
    if f"head/{bits}" not in of_run:
        return ""
    figure, (left, right) = _panels(2)
    for colour, name in zip(("tab:blue", "tab:orange"), config.models, strict=False):
        left.plot(*of_run[f"{name}/{bits}"], color=colour, alpha=0.4, label=f"{name}, training")
        if f"validation/{name}/{bits}" in of_run:
            held_out = of_run[f"validation/{name}/{bits}"]
            left.plot(*held_out, "o-", color=colour, markersize=3, label=f"{name}, held out")
        right.plot(*of_run[f"{name}/gradient_norm"], color=colour, label=name)
    left.set(xlabel="step", ylabel=f"bits per dimension ({config.metric.name})")
    right.set(xlabel="step", ylabel="gradient norm", yscale="log")
    left.legend()
    right.legend()
    return _svg(figure)
