"""The report of an evaluation as text for the terminal."""

from typing import Any

Report = dict[str, Any]
TITLES = {
    "copy_last_frame_logistic": "copy last frame, logistic",
    "difference_histogram": "copy last frame, histogram",
    "independent_pixels": "independent pixels",
    "png": "PNG",
    "ffv1": "FFV1",
    "h264_lossless": "H.264, lossless RGB",
}


def format_report(report: Report) -> str:
    """Returns a table with a row per model or baseline and a column per metric, and label lines.

    Args:
        report: as `evaluation_report.evaluate` returns it.

    Raises:
        KeyError: for the report of an older version.
    """
    metrics = list(report["metrics"].values())
    tables = [_rows(metrics, "first frame (head)", "head", "head_baselines")]
    if any(m["tail"] for m in metrics):
        tables.append(_rows(metrics, "next frames (tail)", "tail", "baselines"))
    lines = [
        _title(report, "videos" if len(tables) > 1 else "images"),
        f"{'':30}" + "".join(f"{name + ' metric':>20}" for name in report["metrics"]),
    ]
    for table in tables:
        for title, entries in table.items():
            lines.append(f"{title:30}" + "".join(f"{_cell(entry):>20}" for entry in entries))
    if report["of_bins"]:
        lines.append("the flow models bins: these are bits of the discrete frames, without noise")
    if report["labels"] is not None:
        lines += _label_lines(report["labels"], "labels, from first frames")
    if report["video_labels"] is not None:
        lines += _label_lines(report["video_labels"], "labels, from whole videos")
    if report["latent_labels"] is not None:
        lines += _label_lines(report["latent_labels"], "the same, what the tail is told latent")
    return "\n".join(lines)


def _title(report: Report, counted: str) -> str:
    remarks = ["moving average"] if report["averaged"] else []
    if report["checkpoint_chosen_on"] is not None:
        remarks.append(f"checkpoint chosen on the {report['checkpoint_chosen_on']} split")
    remark = f" ({', '.join(remarks)})" if remarks else ""
    return (
        f"{report['variant']}, step {report['step']}{remark}: bits per dimension, mean ± standard "
        f"error over {report['num_videos']} {counted} of {report['dataset']} {report['split']}"
    )


def _rows(
    metrics: list[dict[str, Any]], title: str, part: str, baselines: str
) -> dict[str, list[Any]]:
    """Returns the entries of one part of the models and its baselines, by the row's title."""
    table = {title: [m[part] for m in metrics]}
    bounds = [m["importance_weighted"] or {} for m in metrics]
    if draws := max(bound.get("draws", 0) for bound in bounds):
        table[f"  the same, {draws} noise draws"] = [bound.get(part) for bound in bounds]
    for name, baseline in TITLES.items():
        entries = [m[baselines].get(name) for m in metrics]
        if any(entries):
            table["  " + baseline] = entries
    return table


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    return f"{entry['bits_per_dim']:.4f}" + _error(entry["stderr"], 4)


def _error(stderr: float | None, digits: int) -> str:
    return "" if stderr is None else f" ± {stderr:.{digits}f}"


def _label_lines(labels: dict[str, Any], title: str) -> list[str]:
    lines = [
        f"{title}: {labels['bits_per_video']:.3f}{_error(labels['stderr'], 3)} bits per video "
        f"over {labels['videos']} (entropy of the {labels['num_labels']} labels in training: "
        f"{labels['most_bits']:.2f}); "
        f"Bayes accuracy {labels['accuracy']:.3f}{_error(labels['accuracy_stderr'], 3)} "
        f"(chance {labels['chance']:.3f})"
    ]
    if (images := labels.get("images")) is not None:
        lines.append(
            f"label images: pixels have moved by {images['moved']:.3g} (root mean square; "
            f"{images['least']:.3g} to {images['most']:.3g} per label) from initial values of "
            f"{images['start']:.3g}"
        )
    return lines
