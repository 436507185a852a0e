"""The report page: what is in it, and that a browser shows it and asks for nothing else."""

import base64
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import flowvid
from experiments import report_parts, run_data
from flowvid.data import decoding

pytest_plugins = ["system_fixtures"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
# No sandbox, since tests may run as root; nothing that calls home.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"]


def content(clip):
    """What a clip holds, decoded."""
    kind, data = re.fullmatch(r"data:(.*?);base64,(.*)", clip.uri).groups()
    return kind, base64.b64decode(data)


def test_a_clip_is_a_video_in_the_page(tmp_path):
    block = np.kron(np.eye(4), np.ones((4, 4)))[..., None] * [200, 100, 50]
    video = np.stack([np.roll(block, i, axis=1) for i in range(6)]).astype(np.uint8)
    clip = report_parts.clip(video, "moving")
    kind, data = content(clip)
    assert (kind, clip.caption, clip.is_video) == ("video/webm", "moving", True)
    (tmp_path / "clip.webm").write_bytes(data)
    shown = decoding.read_clip(tmp_path / "clip.webm", None, 16)
    assert shown.shape == video.shape
    assert np.abs(shown.astype(int) - video).mean() < 6


def test_a_single_frame_is_an_image_in_the_page(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    clip = report_parts.clip(image, "still")
    kind, data = content(clip)
    assert (kind, clip.is_video) == ("image/png", False)
    (tmp_path / "image.png").write_bytes(data)
    with (tmp_path / "image.png").open("rb") as file:
        np.testing.assert_array_equal(decoding.decode_image(file, 16), image)


def test_the_nearest_clip_is_found_and_how_far_it_is(tiny):
    dataset = run_data.split_of(tiny(), "train")
    videos = np.stack([dataset[i]["video"] for i in (7, 2)])
    moved = videos.copy()
    moved[0] ^= 4  # by 4 grey levels everywhere
    near = report_parts.nearest(moved, dataset, "looking")
    np.testing.assert_array_equal(near.clips, [7, 2])
    np.testing.assert_allclose(near.distance, [4, 0], atol=0.05)


@pytest.fixture(scope="module")
def page(run_of):
    """The report of a run of every part, and where the run is."""
    workdir = run_of("state_label")
    (workdir / "evaluation.json").write_text('{"step": 4}')  # an older version's
    (workdir / "comparison.md").write_text("a table of other models")
    np.savez(workdir / "comparison.npz", other=np.zeros((1, 5, 16, 16, 3), np.uint8))
    flags = [f"--workdir={workdir}", "--samples=3", "--continued=2", "--sweep=0.5,1"]
    flags.append(f"--comparison={workdir}")
    command = [sys.executable, "-m", "experiments.report", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{workdir / 'report.html'}: " in done.stdout
    return workdir / "report.html"


def test_the_page_has_every_part(page):
    text = page.read_text()
    for title in ("Configuration", "Likelihood", "Training", "Generated from nothing"):
        assert title in text
    assert "first frame (head)" in text
    assert "copy last frame, logistic" in text
    assert "bits per video" in text
    assert text.count("<svg") == 2
    assert "a table of other models" in text
    # Of each of 3 samples a real and a training clip; 2 continued ones; 6 at 2 temperatures; 1.
    assert text.count("<video") == 3 * 3 + 2 * 2 + 6 * 2 + 1
    assert "generated, bounce" in text
    model = flowvid.load(page.parent)
    assert f"step {model.step}" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: `make browser` installs it on Debian")
def test_a_browser_shows_it_and_asks_for_nothing_else(page):
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        # High enough for all of them: what is out of sight does not play.
        tab = browser.new_page(viewport={"width": 1200, "height": 4000})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_function(
            "[...document.querySelectorAll('video')].every(v => v.played.length && !v.paused)"
        )
        sizes = tab.evaluate("[...document.querySelectorAll('video')].map(v => v.videoWidth)")
        widths = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        browser.close()
    assert set(sizes) == {16}
    assert widths <= 0  # nothing sticks out
    assert not complaints
    assert {url for url in requests if not url.startswith("data:")} == {page.as_uri()}
