"""Table I: which runs its rows are of, its numbers, its formats, and the command."""

import copy
import csv
import io
import json
import shutil

import numpy as np
import pytest
from helpers import assert_same, saved

import flowvid
from experiments.paper import ablation, table_formats
from experiments.paper.seed_statistics import number
from experiments.running.run_processes import Run
from flowvid import paths
from flowvid.errors import ConfigError
from flowvid.evaluation import bounds, evaluation_report
from flowvid.training import loop

pytest_plugins = ["system_fixtures", "command_line"]

SEEDS = [0, 3]


@pytest.fixture(scope="module")
def evaluated(run_of, tiny):
    """Evaluations of a run of each variant that is trained."""
    splits = loop.prepare(tiny())[1:]
    return {
        variant: evaluation_report.evaluate(
            flowvid.load(run_of(variant)),
            *splits,
            metrics=["5-bit", "paper"],
            num_videos=5,
            seed=0,
        )
        for variant in ablation.TRAINED
    }


def varied(result, seed):
    """The evaluation as another seed might have had it."""
    rng = np.random.default_rng(seed)
    report, arrays = copy.deepcopy(result.report), dict(result.per_video)
    for metric, of_metric in report["metrics"].items():
        for part in ("head", "tail"):
            bits = arrays[f"{metric}/{part}"].reshape(5, -1) + 0.1 * rng.normal(size=(5, 1))
            arrays[f"{metric}/{part}"] = bits.reshape(arrays[f"{metric}/{part}"].shape)
            of_metric[part] |= bounds.mean_and_stderr(bits.mean(axis=1))
    return evaluation_report.Evaluation(report, arrays)


def change_config(workdir, to, **changes):
    """Writes a run's config.json to another folder, with changed fields."""
    saved = json.loads((workdir / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(saved | changes))


def change_report(workdir, **changes):
    path = workdir / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def folder(run_of, evaluated, tmp_path_factory):
    """What the table needs of the runs of two seeds."""
    folder = tmp_path_factory.mktemp("table1")
    for variant, result in evaluated.items():
        for seed in SEEDS:
            workdir = ablation.workdir_of(folder, variant, seed)
            workdir.mkdir()
            change_config(run_of(variant), workdir, seed=seed)
            evaluation_report.write(result if seed == 0 else varied(result, seed), workdir)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return ablation.collect(folder, SEEDS)


def test_the_state_row_needs_no_run_of_its_own(run_of):
    """Bit for bit: nothing of a model depends on what the other one sees."""
    own = saved(run_of("state"), 4)
    for part in ("head", "tail"):
        other = saved(run_of(ablation.ROWS["state"][part]), 4)
        assert_same(getattr(own, part).params, getattr(other, part).params)


def test_rows_are_of_the_runs_that_they_name(results, folder):
    for row, of_parts in ablation.ROWS.items():
        for part, variant in of_parts.items():
            expected = []
            for seed in SEEDS:
                path = ablation.workdir_of(folder, variant, seed) / "evaluation.json"
                report = json.loads(path.read_text())
                expected.append(report["metrics"]["5-bit"][part]["bits_per_dim"])
            entry = results["rows"][row]["5-bit"][part]
            np.testing.assert_allclose(entry["per_seed"], expected, rtol=1e-6)
            assert entry["mean"] == pytest.approx(np.mean(expected))
            assert entry["spread"] == pytest.approx(np.std(expected, ddof=1))
    assert results["seeds"] == [0, 3]
    assert (results["num_steps"], results["num_videos"]) == (4, 5)


def test_differences_are_paired_over_videos(results, folder):
    def tails(variant):
        of_seeds = []
        for seed in SEEDS:
            with np.load(ablation.workdir_of(folder, variant, seed) / "evaluation.npz") as file:
                of_seeds.append(file["5-bit/tail"].mean(axis=1))
        return np.stack(of_seeds)

    gain = tails("state_label") - tails("prev_frame")
    entry = results["differences"]["tail"]["5-bit"]
    assert entry["mean"] == pytest.approx(gain.mean())
    assert entry["stderr"] == pytest.approx(gain.mean(axis=0).std(ddof=1) / np.sqrt(5))
    np.testing.assert_allclose(entry["per_seed"], gain.mean(axis=1))
    one = results["labels"]["bits_per_video"]
    expected = [run["bits_per_video"] for run in results["labels"]["runs"]]
    np.testing.assert_allclose(one["per_seed"], expected)
    assert one["per_seed"][0] == one["per_seed"][1]  # `varied` leaves labels alone


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the table's runs, to change."""
    return shutil.copytree(folder, tmp_path / "copied")


def test_an_evaluation_on_other_data_is_not_in_the_table(copied):
    """Such as one that was made by hand, after the table's own."""
    workdir = ablation.workdir_of(copied, "prev_frame", 3)
    change_report(workdir, dataset="moving_digits", num_videos=2)
    with pytest.raises(ConfigError, match="prev_frame-seed3 does not fit the table") as error:
        ablation.collect(copied, SEEDS)
    assert "evaluation's dataset is moving_digits, not moving_shapes" in str(error.value)
    assert "evaluation's num_videos is 2, not 5" in str(error.value)


def test_an_evaluation_of_another_step_is_not_in_the_table(copied):
    change_report(ablation.workdir_of(copied, "prev_frame", 0), step=2)
    with pytest.raises(ConfigError, match=r"prev_frame-seed0.*step is 2, not 4"):
        ablation.collect(copied, SEEDS)


@pytest.mark.parametrize(
    ("variant", "changes", "message"),
    [
        ("init", {"n_bits": 8}, "n_bits is 8, not 5"),
        ("prev_frame", {"learning_rate": 1.0}, "learning_rate is 1.0, not 0.01"),
        ("state_label", {"num_steps": 8}, "num_steps is 8, not 4"),
        ("prev_frame", {"seed": 0}, "seed is 0, not 3"),
        ("prev_frame", {"variant": "state"}, "variant is state, not prev_frame"),
    ],
)
def test_a_run_of_another_configuration_is_not_in_the_table(variant, changes, message, copied):
    workdir = ablation.workdir_of(copied, variant, 3)
    change_config(workdir, workdir, **changes)
    with pytest.raises(ConfigError, match=f"{variant}-seed3 does not fit the table.*{message}"):
        ablation.collect(copied, SEEDS)


def test_the_tables_have_the_papers_numbers_beside_ours(results):
    text = table_formats.markdown(results)
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header.count("|") == rows[0].count("|") == 8
    by_name = {row.split("|")[1].strip(): row for row in rows}
    assert {*ablation.ROWS, "copy last frame, logistic", "PNG"} <= set(by_name)
    assert "| 1.1217 | 1.6587 |" in by_name["state"]
    assert number(results["rows"]["state"]["paper"]["tail"]) in by_name["state"]
    assert text.count("\n- ") == 5
    source = table_formats.latex(results)
    assert r"prev\_frame & 1.0947 & 1.7243 & " in source
    assert all(
        line.count("&") == 6
        for line in source.splitlines()
        if line.endswith(r"\\") and "multi" not in line
    )
    lines = list(csv.DictReader(io.StringIO(table_formats.comma_separated(results))))
    assert len(lines) == 4 * 2 * 2 * 2
    one = next(
        x
        for x in lines
        if (x["variant"], x["metric"], x["part"], x["seed"]) == ("state", "5-bit", "tail", "3")
    )
    assert float(one["bits_per_dim"]) == results["rows"]["state"]["5-bit"]["tail"]["per_seed"][1]


# The command.


def test_what_is_done_is_not_done_again(folder, call, data_dir):
    given = {"preset": "paper_small", "data_dir": str(data_dir)}
    evaluate = {"num_videos": 5, "noise_draws": 1}
    for seed in SEEDS:
        for variant in ablation.TRAINED:
            train = given | {"variant": variant, "seed": seed}
            run = Run(ablation.workdir_of(folder, variant, seed), train, evaluate)
            assert not run.is_done()
            (run.workdir / "done.json").write_text(json.dumps(run.commands()))
    flags = ["--preset=paper_small", f"--data_dir={data_dir}", "--num_videos=5"]
    code, out, _ = call("experiments.table1", f"--workdir={folder}", "--seeds=0,3", *flags)
    assert code == 0
    assert "| state | 1.1217 | 1.6587 |" in out
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {paths.NOTE, "table1.json", "table1.csv", "table1.md", "table1.tex"}
    results = json.loads((folder / "table1.json").read_text())
    assert results["rows"] == ablation.collect(folder, SEEDS)["rows"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--variant=state", "--variant cannot be given: the table has all variants"),
        ("--seeds=1,1", "--seeds=1,1: give different numbers"),
        ("--seeds=one", "--seeds=one: give different numbers"),
    ],
)
def test_flags_that_make_no_table_are_refused(flag, message, call, tmp_path):
    code, _, err = call("experiments.table1", f"--workdir={tmp_path}", flag)
    assert code == 1
    assert message in err
