"""Table I: which runs its rows are of, the numbers and their errors, and every format of them."""

import copy
import csv
import io
import json
import shutil

import numpy as np
import pytest
from helpers import TINY, assert_same, saved

import flowvid
from experiments import ablation, runs, tables
from flowvid.errors import TrainingError
from flowvid.evaluation import evaluation_report
from flowvid.training import loop

pytest_plugins = ["system_fixtures", "command_line"]

SEEDS = ["0", "3"]


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
            of_metric[part] |= evaluation_report.mean_and_stderr(bits.mean(axis=1))
    return evaluation_report.Evaluation(report, arrays)


@pytest.fixture(scope="module")
def folder(run_of, evaluated, tmp_path_factory):
    """What the table needs of the runs of two seeds."""
    folder = tmp_path_factory.mktemp("table1")
    for variant, result in evaluated.items():
        for seed in SEEDS:
            workdir = ablation.workdir_of(folder, variant, seed)
            workdir.mkdir()
            shutil.copy(run_of(variant) / "config.json", workdir)
            evaluation_report.write(result if seed == "0" else varied(result, int(seed)), workdir)
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


def test_means_errors_and_spread_by_hand():
    values = np.array([[1.0, 2.0, 6.0], [3.0, 2.0, 4.0]])
    entry = ablation.spread(values)
    # Over seeds the videos have 2, 2 and 5: variance 3, over 3 videos; the seeds have 3 and 3.
    assert entry == {"mean": 3.0, "stderr": 1.0, "per_seed": [3.0, 3.0], "spread": 0.0}
    one = ablation.spread(values[:1, :1])
    assert one == {"mean": 1.0, "stderr": None, "per_seed": [1.0], "spread": None}
    assert ablation.number(one) == "1.000"
    assert ablation.number(entry, 1) == "3.0 ± 1.0 (0.0)"


def test_rows_are_of_the_runs_that_they_name(results, folder):
    for row, of_parts in ablation.ROWS.items():
        for part, variant in of_parts.items():
            told = []
            for seed in SEEDS:
                path = ablation.workdir_of(folder, variant, seed) / "evaluation.json"
                report = json.loads(path.read_text())
                told.append(report["metrics"]["5-bit"][part]["bits_per_dim"])
            entry = results["rows"][row]["5-bit"][part]
            np.testing.assert_allclose(entry["per_seed"], told, rtol=1e-6)
            assert entry["mean"] == pytest.approx(np.mean(told))
            assert entry["spread"] == pytest.approx(np.std(told, ddof=1))
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
    told = [run["bits_per_video"] for run in results["labels"]["runs"]]
    np.testing.assert_allclose(one["per_seed"], told)
    assert one["per_seed"][0] == one["per_seed"][1]  # `varied` leaves labels alone


def made_up(tail=0.0, head=0.0, labels=0.0, copying=0.0):
    """Results whose differences have these means and standard errors of 1."""
    entry = lambda mean: {"mean": mean, "stderr": 1.0, "spread": None, "per_seed": [mean]}  # noqa: E731
    bits = {"init": 6.0, "prev_frame": 2.0, "state": 2.0, "state_label": 2.5}
    label = {"accuracy": 0.5, "accuracy_stderr": 0.1, "chance": 0.125, "most_bits": 3.0}
    return {
        "own_metric": "5-bit",
        "rows": {r: {"5-bit": {"head": entry(b), "tail": entry(b)}} for r, b in bits.items()},
        "differences": {"tail": {"5-bit": entry(tail)}, "head": {"5-bit": entry(head)}},
        "labels": {"bits_per_video": entry(labels), "runs": [label]},
        "against_copying": {
            "logistic": {row: entry(copying) for row in bits},
            "histogram": {row: entry(-1.0) for row in bits},
        },
    }


def test_claims_hold_only_beyond_two_standard_errors():
    beaten, state, head, labels, copying = ablation.claims(made_up())
    assert "as in the paper: yes; the smallest gap is 3.500" in beaten
    assert ": not certain; " in state
    assert ": not certain; " in head
    assert ": yes; label bits are 0.000 ± 1.000" in labels
    assert copying.endswith(": none.")
    _, state, head, labels, copying = ablation.claims(made_up(-2.1, 2.1, 2.1, 0.1))
    assert ": yes; " in state
    assert ": yes; " in head
    assert ": no; " in labels
    assert copying.endswith(": prev_frame (logistic), state (logistic), state_label (logistic).")
    _, state, head, *_ = ablation.claims(made_up(2.1, -2.1))
    assert ": no; " in state
    assert ": no; " in head


def test_the_tables_have_the_papers_numbers_beside_ours(results):
    text = tables.markdown(results)
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header.count("|") == rows[0].count("|") == 8
    by_name = {row.split("|")[1].strip(): row for row in rows}
    assert {*ablation.ROWS, "copy last frame, logistic", "PNG"} <= set(by_name)
    assert "| 1.1217 | 1.6587 |" in by_name["state"]
    assert ablation.number(results["rows"]["state"]["paper"]["tail"]) in by_name["state"]
    assert text.count("\n- ") == 5
    source = tables.latex(results)
    assert r"prev\_frame & 1.0947 & 1.7243 & " in source
    assert all(
        line.count("&") == 6
        for line in source.splitlines()
        if line.endswith(r"\\") and "multi" not in line
    )
    lines = list(csv.DictReader(io.StringIO(tables.comma_separated(results))))
    assert len(lines) == 4 * 2 * 2 * 2
    one = next(
        x
        for x in lines
        if (x["variant"], x["metric"], x["part"], x["seed"]) == ("state", "5-bit", "tail", "3")
    )
    assert float(one["bits_per_dim"]) == results["rows"]["state"]["5-bit"]["tail"]["per_seed"][1]


# The command.


def test_what_is_done_is_not_done_again(folder, call, data_dir):
    given = {"preset": "small", "data_dir": str(data_dir)}
    evaluate = {"num_videos": 5, "noise_draws": 1}
    for seed in SEEDS:
        for variant in ablation.TRAINED:
            train = given | {"variant": variant, "seed": seed}
            run = runs.Run(ablation.workdir_of(folder, variant, seed), train, evaluate)
            assert not run.is_done()
            (run.workdir / "done.json").write_text(json.dumps(run.commands()))
    flags = ["--preset=small", f"--data_dir={data_dir}", "--num_videos=5"]
    code, out, _ = call("experiments.table1", f"--workdir={folder}", "--seeds=0,3", *flags)
    assert code == 0
    assert "| state | 1.1217 | 1.6587 |" in out
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {"table1.json", "table1.csv", "table1.md", "table1.tex"}
    results = json.loads((folder / "table1.json").read_text())
    assert results["rows"] == ablation.collect(folder, SEEDS)["rows"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--variant=state", "--variant: the table has all variants"),
        ("--seeds=1,1", "--seeds=1,1: give different numbers"),
        ("--seeds=one", "--seeds=one: give different numbers"),
    ],
)
def test_flags_that_make_no_table_are_refused(flag, message, call, tmp_path):
    code, _, err = call("experiments.table1", f"--workdir={tmp_path}", flag)
    assert code == 1
    assert message in err


# Runs in processes of their own.


def test_a_run_is_trained_evaluated_and_then_left_alone(tmp_path, data_dir):
    train = TINY | {"variant": "init", "data_dir": str(data_dir)}
    del train["num_steps"]
    run = runs.Run(tmp_path / "init", train, {"num_videos": 2, "metrics": "paper"})
    runs.carry_out([run], jobs=2)
    report = json.loads((run.workdir / "evaluation.json").read_text())
    assert (report["variant"], report["step"], report["num_videos"]) == ("init", 0, 2)
    assert run.is_done()
    assert "flowvid.evaluate" in run.log.read_text()
    before = run.log.read_text()
    runs.carry_out([run], jobs=1)
    assert run.log.read_text() == before
    other = runs.Run(run.workdir, train, {"num_videos": 3})
    assert not other.is_done()


def test_a_run_that_fails_says_where_to_look(tmp_path):
    run = runs.Run(tmp_path / "bad", {"variant": "state", "width": 0}, None)
    with pytest.raises(TrainingError, match="--width=0 must be at least 1") as error:
        runs.carry_out([run], jobs=1)
    assert str(run.log) in str(error.value)
    assert not run.is_done()


def test_jobs_share_the_cores_and_gpus_take_turns(monkeypatch, tmp_path):
    monkeypatch.setattr(runs.os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 7})
    assert runs._shares(2) == [[0, 2, 7], [1, 5]]
    assert runs._shares(1) == [None]
    assert runs._shares(7)[5:] == [[0], [1]]
    seen = []
    monkeypatch.setattr(
        runs.Run, "carry_out", lambda self, environment, cores: seen.append((environment, cores))
    )
    planned = [runs.Run(tmp_path / str(i), {}, None) for i in range(4)]
    runs.carry_out(planned, jobs=1, gpus=["4", "6"])
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment, _ in seen} <= {"4", "6"}
    assert [cores for _, cores in seen] == [None] * 4
