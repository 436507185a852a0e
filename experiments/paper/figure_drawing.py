"""Draws each of the paper's figures from its saved data; nothing is trained or generated here."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from flowvid.config import config_file
from flowvid.data import media
from flowvid.plotting import pyplot
from flowvid.video.build import encoder_of, flow_of, frame_shape

Arrays = dict[str, Any]


def _box(panel: Any, x: float, y: float, text: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "0.4"}
    panel.text(x, y, text, ha="center", va="center", fontsize=8, bbox=box)


def _arrow(panel: Any, start: tuple[float, float], end: tuple[float, float], **style: Any) -> None:
    properties = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 14, "shrinkB": 14} | style
    panel.annotate("", xy=end, xytext=start, arrowprops=properties)


def _shape(height: int, width: int, channels: int) -> str:
    return f"{height}x{width}x{channels}"


def model_diagram(arrays: Arrays) -> Any:
    """Draws figure 1: head and tail, level by level, with the shapes of inputs and outputs."""
    settings, _ = config_file.from_dict(json.loads(str(arrays["config"])))
    shape, names = frame_shape(settings), settings.models
    latents = {name: flow_of(settings, name).latent_shapes(shape) for name in names}
    top = float(max(map(len, latents.values())))
    figure, panels = pyplot().subplots(1, len(names), figsize=(8.4 * len(names), 1.5 + 1.3 * top))
    for panel, name in zip(np.atleast_1d(panels), names, strict=True):
        seen = settings.context_settings.describe(settings.sees(name))
        what = "first frame" if name == "head" else "next frame"
        _box(panel, 0, top, f"{what}\n{_shape(*shape)}", "#dbe9f6")
        if seen:
            _box(panel, -3.7, top, "\n".join(seen), "#fde9cf")
        if settings.sees(name).state:
            carries = "context processor:\nstate and frame to next state"
            _box(panel, -3.7, top + 0.8, carries, "#f8d9d9")
            _arrow(panel, (-3.7, top + 0.8), (-3.7, top))
        height, width, _ = shape  # of what a level begins with
        texts = settings.flow_settings.describe(name, shape, settings.levels)
        for level, (text, latent) in enumerate(zip(texts, latents[name], strict=True)):
            y = top - 1 - level
            _box(panel, 0, y, text, "#e3f1df")
            _arrow(panel, (0, y + 1), (0, y))
            _box(panel, 3.6, y, f"z{level + 1}, Gaussian\n{_shape(*latent)}", "#eee3f3")
            _arrow(panel, (2.05, y), (2.9, y), shrinkA=0, shrinkB=0)
            channels = encoder_of(settings, name).channels
            if latent[0] < height and channels[level]:  # the last image of a flow has no own map
                _box(
                    panel,
                    -3.7,
                    y,
                    f"context map\n{_shape(height, width, channels[level])}",
                    "#fde9cf",
                )
                _arrow(panel, (-3.7, y + 1), (-3.7, y))
                _arrow(panel, (-2.95, y), (-2.05, y), shrinkA=0, shrinkB=0)
            height, width, _ = latent
        panel.set(xlim=(-5, 4.4), ylim=(-0.4, top + 1.2), title=f"{name} ({settings.variant})")
        panel.axis("off")
    figure.tight_layout()
    return figure


def _pictures(panel: Any, images: np.ndarray, title: str) -> None:
    panel.imshow(images, interpolation="nearest")
    panel.set_title(title, fontsize=9)
    panel.axis("off")


def faces(arrays: Arrays) -> Any:
    """Draws figure 2: generated images."""
    figure, panel = pyplot().subplots(figsize=(6, 6.3))
    title = f"generated at temperature {arrays['temperature']}, after {arrays['step']} steps"
    _pictures(panel, media.image_grid(arrays["generated"]), title)
    figure.tight_layout()
    return figure


def label_gradient(arrays: Arrays) -> Any:
    """Draws figure 3: gradient norms over steps."""
    figure, panel = pyplot().subplots(figsize=(6, 3.5))
    for name, title in (("labels", "label images"), ("tail", "whole tail")):
        norm = arrays[f"{name}/norm"]
        # The first norm is zero, since the convolutions behind the label images start at zero; a
        # logarithmic axis cannot show it.
        panel.plot(arrays[f"{name}/steps"], np.where(norm > 0, norm, np.nan), label=title)
    panel.set(xlabel="step", ylabel="gradient norm", yscale="log")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    return figure


def first_frames(arrays: Arrays) -> Any:
    """Draws figure 4: generated first frames above real ones."""
    figure, (above, below) = pyplot().subplots(2, 1, figsize=(8, 5))
    for panel, name, title in (
        (above, "generated", f"generated at temperature {arrays['temperature']}"),
        (below, "real", "real, held-out"),
    ):
        images = arrays[name]
        columns = 8 if len(images) % 8 == 0 else len(images)
        rows = images.reshape(-1, columns, *images.shape[1:])
        _pictures(panel, media.contact_sheet(rows, columns=columns), title)
    figure.tight_layout()
    return figure


def overfitted(arrays: Arrays) -> Any:
    """Draws figures 5 and 8: real and generated frames, and bits per dimension over steps."""
    figure, (pictures, panel) = pyplot().subplots(2, 1, figsize=(8, 5.5), height_ratios=(1, 1.1))
    both = np.stack([arrays["real"], arrays["generated"]])
    sheet = media.contact_sheet(both, columns=10, captions=("real", "generated"))
    psnr = arrays["psnr"]
    _pictures(
        pictures,
        sheet,
        f"temperature 0; PSNR per frame {min(psnr):.1f} to {max(psnr):.1f} dB",
    )
    for name in ("head", "tail"):
        if f"{name}/steps" in arrays:
            panel.plot(arrays[f"{name}/steps"], arrays[f"{name}/bits"], label=name)
    panel.set(xlabel="step", ylabel=f"bits per dimension ({arrays['metric']})")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    return figure


def instability(arrays: Arrays) -> Any:
    """Draws figure 6: three numbers over steps, one line per run, with skipped steps marked."""
    names = sorted({key.rpartition("/")[0] for key in arrays if "/" in key})
    models = sorted({name.split("/")[0] for name in names})
    columns = {
        "log_det_per_dim": "log-det (nats per dim)",
        "log_prior_per_dim": "log-prob of latents (nats per dim)",
        "bits_per_dim": f"cross entropy ({arrays['metric']} bits per dim)",
    }
    figure, panels = pyplot().subplots(
        len(models), 3, figsize=(13, 3.4 * len(models)), squeeze=False
    )
    for row, model in zip(panels, models, strict=True):
        for panel, (key, title) in zip(row, columns.items(), strict=True):
            for name in names:
                if name.split("/")[0] == model:
                    _run(panel, arrays, name, key)
            panel.set(xlabel="step", ylabel=f"{model}: {title}")
            panel.set_yscale("symlog", linthresh=10)
            panel.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def _run(panel: Any, arrays: Arrays, name: str, key: str) -> None:
    steps, values = arrays[f"{name}/steps"], arrays[f"{name}/{key}"]
    title = name.split("/")[1]
    colour = "tab:orange" if title.startswith("not") else "tab:blue"
    panel.plot(steps, values, color=colour, alpha=0.7, linewidth=0.9, label=title)
    failed = np.diff(arrays[f"{name}/skipped"], prepend=0) > 0
    if failed.any():
        # A skipped step has no finite value: its mark is at the last one before.
        finite = np.isfinite(values)
        last = np.maximum.accumulate(np.where(finite, np.arange(len(values)), 0))
        panel.plot(steps[failed], values[last][failed], "x", color="red", markersize=5)


def gan(arrays: Arrays) -> Any:
    """Draws figure 7: one line per run of the GAN, coloured by objective; real clips dashed."""
    titles = {
        "generator/frame_mean": "mean of generated pixels, -1 to 1",
        "generator/frame_std": "standard deviation within a frame",
        "generator/between_std": "standard deviation between videos",
        "generator/saturated": "share of saturated tanh units",
        "generator/loss": "generator's loss",
        "discriminator/loss": "discriminator's loss",
    }
    runs = sorted(key.removesuffix("/steps") for key in arrays if key.endswith("/steps"))
    figure, panels = pyplot().subplots(2, 3, figsize=(13, 6.5))
    for panel, (tag, title) in zip(panels.flat, titles.items(), strict=True):
        for name in runs:
            colour = "tab:orange" if name.startswith("paper") else "tab:blue"
            style = {"color": colour, "alpha": 0.7, "linewidth": 0.9, "label": name}
            panel.plot(arrays[f"{name}/steps"], arrays[f"{name}/{tag}"], **style)
        if f"real/{tag}" in arrays:
            panel.axhline(float(arrays[f"real/{tag}"]), color="0.3", ls="--", label="real clips")
        panel.set(xlabel="step", ylabel=title)
        panel.grid(alpha=0.3)
    panels[0, 2].legend(fontsize=7, loc="center right")
    figure.tight_layout()
    return figure


# By the number in the paper.
DRAW: dict[str, Callable[[Arrays], Any]] = {
    "1": model_diagram,
    "2": faces,
    "3": label_gradient,
    "4": first_frames,
    "5": overfitted,
    "6": instability,
    "7": gan,
    "8": overfitted,
}
