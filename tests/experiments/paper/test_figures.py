"""The figures: what is collected, that it is saved and drawn again, and what is refused."""

import json

import numpy as np
import pytest
import tensorboardX
from drawn_figures import drawn, lines

import flowvid
from experiments.paper import figure_data, figure_drawing
from experiments.running import finished_runs
from flowvid.config import config_file, schema
from flowvid.errors import ConfigError
from flowvid.gan import config as gan_config
from flowvid.paths import MARKER

pytest_plugins = ["system_fixtures", "command_line"]

STEPS = [1, 2, 3, 4]


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
    channels = 3 * seen.label + 3 * seen.previous + 16 * seen.state
    sizes = (64, 32, 16, 8) if channels else ()
    assert maps == [f"{size}x{size}x{channels}" for size in sizes]


def test_the_diagram_of_a_mixture_flow_shows_its_last_images(request_of, tmp_path):
    given = {"variant": "label_everywhere", "preset": "small"}
    figure, _ = drawn("1", figure_data.model_diagram(request_of(given=given)), tmp_path)
    head, tail = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    shapes = [[t.split("\n")[1] for t in texts if t.startswith("z")] for texts in (head, tail)]
    assert shapes == [["16x16x9", "8x8x9", "8x8x3"], ["16x16x9", "8x8x9", "4x4x9", "4x4x3"]]
    assert any("pixel by pixel in two passes, 3 blocks" in text for text in head)
    assert any("independent of each other" in text for text in tail)
    # The label of the head is the same at every pixel: it has no map.
    maps = [sum(t.startswith("context map") for t in texts) for texts in (head, tail)]
    assert maps == [0, 3]


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
    request.given["num_frames"] = 1  # of which a GAN compiles faster
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
        MARKER,
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
