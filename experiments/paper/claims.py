"""What the paper says about its Table I, and whether it holds here, as sentences."""

from typing import Any

from experiments.paper.seed_statistics import ONE_SEED, number_and_interval, verdict


def claims(results: dict[str, Any]) -> list[str]:
    """Returns one sentence per claim of the paper: the verdict and the numbers behind it.

    A claim holds only where the differences between seeds leave no doubt, see
    `seed_statistics.interval`. With one seed no claim is said to hold.
    """
    own = results["own_metric"]
    lines = [_over_init(results)]
    if "tail" in results["differences"]:
        gain = results["differences"]["tail"][own]
        lines.append(
            f"The state helps the tail, as in the paper: {verdict(gain, -1)}; `state` minus "
            f"`prev_frame` is {number_and_interval(gain, 4)} ({own}, paired over videos; negative "
            "is better)."
        )
    head = results["differences"]["head"][own]
    lines += [
        f"Labels make the head worse in bits per dimension, as in the paper: {verdict(head, 1)}; "
        f"`state_label` minus `state` is {number_and_interval(head, 4)} ({own}).",
        _use_of_labels(results["labels"]),
    ]
    if results["against_copying"]:
        lines.append(_against_copying(results["against_copying"]))
    return lines


def _over_init(results: dict[str, Any]) -> str:
    gains = [entry for parts in results["gain_over_init"].values() for entry in parts.values()]
    verdicts = [verdict(entry, 1) for entry in gains]
    if "no" in verdicts:
        together = "no"
    else:
        together = next((text for text in verdicts if text != "yes"), "yes")
    least = min(gains, key=lambda entry: float(entry["mean"]))
    return (
        f"Trained models beat `init`, as in the paper: {together}; the smallest gain is "
        f"{number_and_interval(least)} bits per dimension ({results['own_metric']})."
    )


def _use_of_labels(of_labels: dict[str, Any]) -> str:
    """Returns the sentence about label bits: data can show a use, but not that there is none."""
    found = verdict(of_labels["bits_per_video"], 1)
    answer = {
        "yes": "no",
        ONE_SEED: "not known (one seed does not show whether it holds)",
    }.get(found, "no use has been found")
    first = of_labels["runs"][0]
    accuracies = ", ".join(f"{run['accuracy']:.3f}" for run in of_labels["runs"])
    return (
        f"Labels are of no use to the head, as in the paper: {answer}; label bits are "
        f"{number_and_interval(of_labels['bits_per_video'])} per video (at most H(y) = "
        f"{first['most_bits']:.2f}), Bayes accuracy {accuracies} "
        f"(± {first['accuracy_stderr'] or 0:.3f} over videos; chance {first['chance']:.3f})."
    )


def _against_copying(of_copies: dict[str, dict[str, Any]]) -> str:
    entries = {
        f"{row} ({name})": entry
        for name, of_rows in of_copies.items()
        for row, entry in of_rows.items()
        if row != "init"
    }
    worse = [name for name, entry in entries.items() if verdict(entry, 1) == "yes"]
    open_ones = [
        name
        for name, entry in entries.items()
        if entry["mean"] > 0 and verdict(entry, 1) in ("not certain", ONE_SEED)
    ]
    text = f"Worse on later frames than copying the last one: {', '.join(worse) or 'none'}"
    if open_ones:
        single = any(verdict(entry, 1) == ONE_SEED for entry in entries.values())
        doubt = "in the one seed that there is" if single else "on average, but not for certain"
        text += f"; {doubt}: {', '.join(open_ones)}"
    return text + "."
