"""The figures: what is collected, that it is saved and drawn again, and what is refused."""

import json
import re

import imageio.v3 as iio
import numpy as np
import pytest
import tensorboardX
from helpers import TINY

import flowvid
from experiments.paper import figure_data, figure_drawing, overfitting
from experiments.running import finished_runs, run_processes
from flowvid.config import config_file, schema
from flowvid.data import decoding
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.gan import training as gan_training
from flowvid.training import loop

pytest_plugins = ["system_fixtures", "command_line"]

STEPS = [1, 2, 3, 4]
# Runs that the figures train are smaller still than those of `run_of`.
SMALLER = TINY | {"levels": 1, "image_size": 8, "num_frames": 3, "eval_every": 4}


@pytest.fixture(scope="module")
def train_here():
    """Runs are trained in this process, which takes less time."""

    def carry_out(planned, jobs):
        for run in planned:
            if run.module == "flowvid.gan.train":
                gan_training.train(gan_config.preset_config(**run.train), run.workdir)
            else:
                loop.train(schema.preset_config(**run.train), run.workdir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_processes, "carry_out", carry_out)
        yield


@pytest.fixture(scope="module")
def request_of(tmp_path_factory, data_dir):
    """A function that makes a request, with changes."""

    def make(**changes):
        fields = {
            "folder": tmp_path_factory.mktemp("figures") / "figure",
            "run": None,
            "given": SMALLER | {"data_dir": str(data_dir)},
            "clip": None,
            "images": 3,
            "temperature": 0.5,
            "seeds": 1,
            "jobs": 1,
        }
        return figure_data.Request(**fields | changes)

    return make


def drawn(number, arrays, tmp_path):
    """The picture of a figure, drawn from what was saved of it."""
    np.savez(tmp_path / "data.npz", **arrays)
    with np.load(tmp_path / "data.npz") as file:
        figure = figure_drawing.DRAW[number](dict(file))
    figure.savefig(tmp_path / "figure.png")
    return figure, iio.imread(tmp_path / "figure.png")


def lines(figure):
    """The curves of a figure by their legend."""
    return {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}


def test_every_figure_that_is_collected_is_drawn():
    assert figure_data.COLLECT.keys() == figure_drawing.DRAW.keys()
    assert set(figure_data.COLLECT) == set("12345678")


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_the_diagram_is_of_the_configuration(request_of, variant, tmp_path):
    arrays = figure_data.model_diagram(request_of(given={"variant": variant, "preset": "paper"}))
    figure, _ = drawn("1", arrays, tmp_path)
    head, tail = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert [t for t in head if t.startswith("z")][-1] == "z4, Gaussian\n4x4x96"
    assert sum("32 x (ActNorm" in text for text in head) == 4
    assert sum("1 x (ActNorm" in text for text in tail) == 4
    of_head, seen = (schema.VARIANTS[variant].sees(name) for name in ("head", "tail"))
    assert ("label's image, 3 channels" in head) == of_head.label
    assert any("context processor" in text for text in tail) == seen.state
    maps = [text.split("\n")[1] for text in tail if text.startswith("context map")]
    channels = 3 * seen.previous + 16 * seen.state
    sizes = (64, 32, 16, 8) if channels else ()
    assert maps == [f"{size}x{size}x{channels}" for size in sizes]


def test_the_diagram_of_a_run_is_of_its_configuration(request_of, run_of):
    arrays = figure_data.model_diagram(request_of(run=run_of("state_label")))
    settings, _ = config_file.from_dict(json.loads(str(arrays["config"])))
    assert settings == flowvid.load(run_of("state_label")).config


@pytest.mark.parametrize("number", ["2", "4"])
def test_first_frames_are_generated_beside_real_ones(number, request_of, run_of, tmp_path):
    workdir = run_of("state_label")
    arrays = figure_data.COLLECT[number](request_of(run=workdir))
    model = flowvid.load(workdir)
    expected = model.sample(3, num_frames=1, temperature=0.5).videos[:, 0]
    np.testing.assert_array_equal(arrays["generated"], expected)
    dataset = finished_runs.load_split(model.config, "validation")
    np.testing.assert_array_equal(arrays["real"][1], dataset[1]["video"][0])
    figure, _ = drawn(number, arrays, tmp_path)
    assert "temperature 0.5" in figure.axes[0].get_title()


def test_the_gradient_of_label_images_is_what_the_run_has_logged(request_of, run_of, tmp_path):
    workdir = run_of("state_label")
    arrays = figure_data.label_gradient(request_of(run=workdir))
    logged = finished_runs.scalars(workdir)
    assert arrays["labels/steps"].tolist() == STEPS
    assert tuple(arrays["labels/norm"]) == tuple(logged["head/gradient_norm/labels"][1])
    assert tuple(arrays["tail/norm"]) == tuple(logged["tail/gradient_norm"][1])
    figure, _ = drawn("3", arrays, tmp_path)
    np.testing.assert_array_equal(lines(figure)["whole tail"].get_ydata(), arrays["tail/norm"])


def test_a_run_without_labels_has_no_such_gradient(request_of, tmp_path):
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("tail/gradient_norm", 1.0, 1)
    with pytest.raises(ConfigError, match=r"not logged head/.*: use one of --variant=state_label"):
        figure_data.label_gradient(request_of(run=tmp_path))


def test_a_figure_of_a_run_needs_one(request_of):
    with pytest.raises(ConfigError, match="give its folder with --run"):
        figure_data.first_frames(request_of())


# Overfitting one clip.


def test_a_lossless_clip_is_read_back_to_the_pixel(tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    overfitting.write_lossless(tmp_path / "a" / "clip.mkv", video)
    read = decoding.read_clip(tmp_path / "a" / "clip.mkv", None, 16)
    np.testing.assert_array_equal(read, video)


def test_psnr_by_hand():
    black = np.zeros((2, 2, 3), np.uint8)
    assert overfitting.psnr(black + np.uint8(16), black) == pytest.approx(24.048, abs=1e-3)
    assert overfitting.psnr(black, black) == float("inf")


@pytest.fixture(scope="module")
def overfitted(request_of, train_here):
    """Figure 5's data, and the clip that it is of."""
    given = request_of().given
    small = {name: value for name, value in given.items() if name not in ("num_frames",)}
    request = request_of(given=small | {"num_steps": 30, "tail_frames": 1, "log_every": 10})
    return figure_data.overfitted_clip(request), request


def test_four_frames_are_learned_and_generated_again(overfitted, tmp_path):
    arrays, request = overfitted
    settings = schema.preset_config(**request.given | {"num_frames": 4})
    held_out = finished_runs.load_split(settings, "validation")
    np.testing.assert_array_equal(arrays["real"], held_out[0]["video"])
    model = flowvid.load(overfitting.folder_of(request.folder, arrays["real"]) / "run")
    assert (model.config.num_frames, model.step) == (4, 30)
    again = model.sample(1, num_frames=4, temperature=0.0).videos[0]
    np.testing.assert_array_equal(arrays["generated"], again)
    assert arrays["psnr"].shape == (4,)
    assert arrays["psnr"][0] == pytest.approx(overfitting.psnr(again[0], arrays["real"][0]))
    assert arrays["head/bits"][-1] < arrays["head/bits"][0]
    figure, _ = drawn("5", arrays, tmp_path)
    assert re.search(r"PSNR per frame [\d.]+ to [\d.]+ dB", figure.axes[0].get_title())
    np.testing.assert_array_equal(lines(figure)["tail"].get_ydata(), arrays["tail/bits"])


@pytest.mark.usefixtures("train_here")
def test_a_clip_of_ones_own_is_overfitted_as_a_whole(request_of, tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    overfitting.write_lossless(tmp_path / "own.mkv", video)
    arrays = figure_data.overfitted_video(request_of(clip=tmp_path / "own.mkv"))
    np.testing.assert_array_equal(arrays["real"], video)
    assert arrays["tail/steps"].tolist() == STEPS
    drawn("8", arrays, tmp_path)


def test_another_clip_gets_a_run_of_its_own(request_of, monkeypatch, tmp_path):
    """The records and the model of the clip that was overfitted before are not used for it."""
    rng = np.random.default_rng(0)
    planned = []

    def stop(runs, jobs):
        planned.extend(runs)
        raise InterruptedError

    monkeypatch.setattr(run_processes, "carry_out", stop)
    folder = tmp_path / "figure"
    for name in ("a", "b", "a"):
        path = tmp_path / f"{name}.mkv"
        if not path.exists():
            overfitting.write_lossless(path, rng.integers(0, 256, (3, 8, 8, 3), np.uint8))
        with pytest.raises(InterruptedError):
            figure_data.overfitted_video(request_of(folder=folder, clip=path))
    first, second, again = planned
    assert first == again
    assert first.workdir != second.workdir
    for run, name in ((first, "a"), (second, "b")):
        saved, wanted = (
            decoding.read_clip(path, 3, 8)
            for path in (f"{run.train['dataset']}/train/clip.mkv", tmp_path / f"{name}.mkv")
        )
        np.testing.assert_array_equal(saved, wanted)
    data = [(run.train["dataset"], run.train["data_dir"]) for run in (first, second)]
    assert not set(data[0]) & set(data[1])


# Stability.


def test_runs_with_and_without_clipping_are_compared(request_of, train_here, tmp_path):
    request = request_of()
    arrays = figure_data.instability(request)
    names = {key.rpartition("/")[0] for key in arrays if "/" in key}
    expected = {"clipped, seed 0", "not clipped, seed 0"}
    assert names == {f"{model}/{run}" for model in ("head", "tail") for run in expected}
    for run in expected:
        folder = request.folder / run.replace(", ", "-").replace("seed ", "seed").replace(" ", "_")
        logged = finished_runs.scalars(folder)
        np.testing.assert_array_equal(
            arrays[f"tail/{run}/bits_per_dim"], logged["tail/bits_per_dim_5-bit"][1]
        )
        clip = config_file.read(folder)[0].tail_clip
        assert clip == (1e9 if run.startswith("not") else 5.0)
    figure, _ = drawn("6", arrays, tmp_path)
    assert len(figure.axes) == 6
    assert len(figure.axes[0].get_lines()) == 2


def test_skipped_steps_are_marked(tmp_path):
    run = {
        "steps": np.arange(1, 6),
        "log_det_per_dim": np.array([1.0, 2.0, np.nan, np.inf, 3.0]),
        "log_prior_per_dim": np.zeros(5),
        "bits_per_dim": np.zeros(5),
        "skipped": np.array([0, 0, 1, 2, 2]),
    }
    arrays = {f"head/clipped, seed 0/{key}": values for key, values in run.items()}
    figure, _ = drawn("6", arrays | {"metric": np.array("5-bit")}, tmp_path)
    _, marks = figure.axes[0].get_lines()
    assert marks.get_xdata().tolist() == [3, 4]
    assert marks.get_ydata().tolist() == [2.0, 2.0]  # at the last number before


@pytest.mark.usefixtures("train_here")
def test_figure_7_is_of_the_gan_by_objective(request_of, tmp_path):
    request = request_of()
    arrays = figure_data.gan(request)
    logged = finished_runs.scalars(request.folder / "r1-seed0")
    for tag in logged:
        np.testing.assert_array_equal(arrays[f"r1, seed 0/{tag}"], logged[tag][1])
    settings, _ = gan_config.read(request.folder / "paper-seed0")
    assert settings.objective == "paper"
    assert settings.width == request.given["width"]  # a flag that the GAN has, too
    held_out = finished_runs.load_split(settings, "validation")
    real = finished_runs.first_clips(held_out, 4) / 127.5 - 1
    assert arrays["real/generator/between_std"] == pytest.approx(real.std(axis=0).mean(), rel=1e-5)
    figure, _ = drawn("7", arrays, tmp_path)
    assert len(figure.axes) == 6
    curves = lines(figure)
    assert set(curves) == {"paper, seed 0", "r1, seed 0", "real clips"}
    loss = figure.axes[5].get_lines()
    np.testing.assert_array_equal(loss[1].get_ydata(), logged["discriminator/loss"][1])


# The command.


def test_a_figure_is_saved_as_data_png_and_pdf_and_drawn_again(call, run_of, tmp_path):
    flags = ["--figures=4", f"--workdir={tmp_path}", "--images=2"]
    code, _, _ = call("experiments.figures", *flags, f"--run={run_of('state_label')}")
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "figure4.npz",
        "figure4.png",
        "figure4.pdf",
    }
    first = (tmp_path / "figure4.png").read_bytes()
    (tmp_path / "figure4.png").unlink()
    code, _, _ = call("experiments.figures", *flags, "--redraw")
    assert code == 0
    assert (tmp_path / "figure4.png").read_bytes() == first


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--figures=9"], "unknown figure '9': use some of 1, 2, 3, 4, 5, 6, 7, 8."),
        (["--figures=5", "--redraw"], "figure5.npz does not exist: leave --redraw out"),
    ],
)
def test_what_cannot_be_drawn_is_refused(flags, message, call, tmp_path):
    code, _, err = call("experiments.figures", *flags, f"--workdir={tmp_path}")
    assert code == 1
    assert message in err
