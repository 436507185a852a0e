"""The report page: what is in it, and that a browser shows it and asks for nothing else."""

import base64
import json
import re

import numpy as np
import pytest
from browsers import BROWSER, QUIET, needs_browser
from playwright.sync_api import sync_playwright

import flowvid
from experiments.label_obedience import obedience, result_files
from experiments.prediction_measures import prediction, protocol
from experiments.prediction_measures import result_files as prediction_files
from experiments.run_report import clips, page, sections
from experiments.running import finished_runs
from experiments.running.nearest_clips import nearest
from flowvid.config.schema import Config
from flowvid.data import decoding
from flowvid.errors import ConfigError

pytest_plugins = ["system_fixtures", "command_line"]


def content(clip):
    """What a clip holds, decoded."""
    kind, data = re.fullmatch(r"data:(.*?);base64,(.*)", clip.uri).groups()
    return kind, base64.b64decode(data)


def test_a_clip_is_a_video_in_the_page(tmp_path):
    block = np.kron(np.eye(4), np.ones((4, 4)))[..., None] * [200, 100, 50]
    video = np.stack([np.roll(block, i, axis=1) for i in range(6)]).astype(np.uint8)
    clip = clips.clip(video, "moving")
    kind, data = content(clip)
    assert (kind, clip.caption, clip.is_video) == ("video/webm", "moving", True)
    (tmp_path / "clip.webm").write_bytes(data)
    shown = decoding.read_clip(tmp_path / "clip.webm", None, 16)
    assert shown.shape == video.shape
    assert np.abs(shown.astype(int) - video).mean() < 6


def test_a_single_frame_is_an_image_in_the_page(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    clip = clips.clip(image, "still")
    kind, data = content(clip)
    assert (kind, clip.is_video) == ("image/png", False)
    (tmp_path / "image.png").write_bytes(data)
    with (tmp_path / "image.png").open("rb") as file:
        np.testing.assert_array_equal(decoding.decode_image(file, 16), image)


def test_the_nearest_clip_is_found_and_how_far_it_is(tiny):
    dataset = finished_runs.load_split(tiny(), "train")
    videos = np.stack([dataset[i]["video"] for i in (7, 2)])
    moved = videos.copy()
    moved[0] ^= 4  # by 4 grey levels everywhere
    near = nearest(moved, dataset, "looking")
    np.testing.assert_array_equal(near.clips, [7, 2])
    np.testing.assert_allclose(near.distance, [4, 0], atol=0.05)


def write_comparison(folder, dataset="moving_shapes"):
    """Writes what the page shows of a comparison."""
    (folder / "comparison.md").write_text("a table of other models")
    (folder / "comparison.json").write_text(json.dumps({"dataset": dataset}))
    np.savez(folder / "comparison.npz", other=np.zeros((1, 5, 16, 16, 3), np.uint8))


def write_obedience(folder, dataset="moving_shapes"):
    """Writes what the page shows of how two labels are obeyed."""
    labels, called = np.array([0, 1]), np.array([0, 0])
    matrix = obedience.confusion(labels, called, 2)
    videos = np.zeros((2, 5, 16, 16, 3), np.uint8)
    result = obedience.Obedience(dataset, "all", ("a", "b"), matrix, matrix, videos, labels, called)
    result_files.write(result, folder)


def write_prediction(folder, dataset="moving_shapes"):
    """Writes what the page shows of the predictions of one clip."""
    settings = {"num_frames": 5, "given": 2, "samples": 3, "num_videos": 1, "split": "validation"}
    row = {"psnr": protocol.summarise(np.full((1, 3, 3), 20.0), lower_is_better=False)}
    report = {
        "settings": settings | {"dataset": dataset, "step": 4},
        "rows": {"model": row, "static median": row},
        "frechet": {"title": None, "reason": "a single clip has no distribution"},
    }
    clips = {"real": np.zeros((1, 5, 16, 16, 3), np.uint8)}
    prediction_files.write(prediction.Prediction(report, clips), "a command", folder)


@pytest.fixture(scope="module")
def html(run_of):
    """The report of a run of every part, in the run's folder; of one metric, and few clips."""
    workdir = run_of("state_label")
    write_comparison(workdir)
    write_obedience(workdir)
    write_prediction(workdir)
    contents = page.Contents(
        samples=3,
        continued=2,
        num_given=4,
        temperature=0.7,
        sweep=[0.5, 1.0],
        comparison=workdir,
        obedience=workdir,
        prediction=workdir,
        seed=0,
    )
    path = workdir / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "metric_names", ("5-bit",))
        patch.setattr(sections, "SWEPT", contents.samples)  # one compilation for both sections
        path.write_text(page.render(workdir, contents))
    return path


def test_the_page_has_every_part(html):
    text = html.read_text()
    for title in ("Configuration", "Likelihood", "Training", "Generated from nothing"):
        assert title in text
    assert "first frame (head)" in text
    assert "copy last frame, logistic" in text
    assert "Bayes accuracy" in text
    assert "<th>head_steps</th><td>1</td>" in text
    assert text.count("<svg") == 2
    assert "a table of other models" in text
    # For each of 3 samples a real and a training clip; 2 continued ones; 3 at 2 temperatures; 1.
    # And 2 samples of the classifier.
    assert text.count("<video") == 3 * 3 + 2 * 2 + 3 * 2 + 1 + 2
    assert "clips of their label" in text
    assert "b: a" in text
    assert 'alt="Do samples show their label?"' in text
    assert "generated, bounce" in text
    assert "PSNR (dB), best sample" in text
    assert 'alt="Prediction"' in text
    model = flowvid.load(html.parent)
    assert f"step {model.step}" in text


def test_a_comparison_of_another_dataset_is_refused(tmp_path):
    write_comparison(tmp_path, "moving_digits")
    with pytest.raises(ConfigError, match="compares clips of moving_digits, but this run is of"):
        sections.compared(tmp_path, "moving_shapes")
    section = sections.compared(tmp_path, "moving_digits")
    assert section.table == "a table of other models"
    assert [[clip.caption for clip in row] for row in section.rows] == [["other"]]


def test_obedience_of_another_dataset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not say how labels are obeyed: run `python -m"):
        sections.obeyed(tmp_path, "moving_shapes")
    write_obedience(tmp_path, "moving_digits")
    with pytest.raises(ConfigError, match="is of a run on moving_digits, but this run is of"):
        sections.obeyed(tmp_path, "moving_shapes")
    section = sections.obeyed(tmp_path, "moving_digits")
    assert [[clip.caption for clip in row] for row in section.rows] == [["a: a", "b: a"]]


def test_a_prediction_of_another_dataset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no measured predictions: run `python -m"):
        sections.predicted(tmp_path, "moving_shapes")
    write_prediction(tmp_path, "moving_digits")
    with pytest.raises(ConfigError, match="is of a run on moving_digits, but this run is of"):
        sections.predicted(tmp_path, "moving_shapes")
    section = sections.predicted(tmp_path, "moving_digits")
    assert "static median" in section.table
    assert section.picture.startswith("data:image/png;base64,")


def test_the_command_passes_its_flags_on_and_says_where_the_page_is(call, monkeypatch, tmp_path):
    asked = []

    def render(workdir, contents):
        asked.append((workdir, contents))
        return "<html></html>"

    monkeypatch.setattr(page, "render", render)
    flags = ["--samples=3", "--continued=0", "--sweep=0,1", f"--comparison={tmp_path}", "--seed=2"]
    flags.append(f"--obedience={tmp_path}")
    code, out, _ = call("experiments.report", f"--workdir={tmp_path}", *flags)
    assert code == 0
    assert (tmp_path / "report.html").read_text() == "<html></html>"
    assert f"{tmp_path / 'report.html'}: " in out
    assert asked == [
        (tmp_path, page.Contents(3, 0, 4, None, [0.0, 1.0], tmp_path, tmp_path, None, 2))
    ]
    (tmp_path / "prediction").mkdir()
    write_prediction(tmp_path / "prediction")
    for given, folder in (([], tmp_path / "prediction"), ([f"--prediction={tmp_path}"], tmp_path)):
        call("experiments.report", f"--workdir={tmp_path}", *given)
        assert asked[-1][1].prediction == folder


@needs_browser
def test_a_browser_shows_it_and_asks_for_nothing_else(html):
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        # High enough for all of them: what is out of sight does not play.
        tab = browser.new_page(viewport={"width": 1200, "height": 4000})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(html.as_uri())
        tab.wait_for_function(
            "[...document.querySelectorAll('video')].every(v => v.played.length && !v.paused)"
        )
        sizes = tab.evaluate("[...document.querySelectorAll('video')].map(v => v.videoWidth)")
        widths = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        browser.close()
    assert set(sizes) == {16}
    assert widths <= 0  # nothing sticks out
    assert not complaints
    assert {url for url in requests if not url.startswith("data:")} == {html.as_uri()}
