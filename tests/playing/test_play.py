"""The page of flowvid.play: what it answers, to whom, and that a browser shows the clips."""

import base64
import http.client
import json
import os
import threading

import imageio.v3 as iio
import numpy as np
import pytest
from browsers import BROWSER, QUIET, needs_browser
from playwright.sync_api import sync_playwright

import flowvid
from flowvid.errors import ConfigError
from flowvid.playing import requests
from flowvid.playing.requests import Player
from flowvid.playing.server import Server

pytest_plugins = ["system_fixtures", "command_line"]

SHORT = {"num_videos": 3, "num_frames": 4}


@pytest.fixture(scope="module")
def model(run_of):
    return flowvid.load(run_of("state_label"))


@pytest.fixture(scope="module")
def server(model):
    """A server of a tiny run, in a thread."""
    server = Server(Player(model, "tiny"), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.stop()
    thread.join()


def ask(server, method, path, body=None, **headers):
    """The status and the text of an answer; headers are named with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def ask_samples(server, asked):
    body = asked if isinstance(asked, str) else json.dumps(asked)
    status, text = ask(server, "POST", "/sample", body, Content_Type="application/json")
    return status, [json.loads(line) for line in text.splitlines()]


def frames_of(answers):
    """The frames of all videos that answers hold: [videos, frames, height, width, 3]."""
    strips = [
        iio.imread(base64.b64decode(answer["strip"])) for answer in answers if "strip" in answer
    ]
    return np.stack([np.split(strip, strip.shape[1] // 16, axis=1) for strip in strips], axis=1)


def test_the_page_is_one_file_and_says_what_the_run_can_do(server, model):
    status, text = ask(server, "GET", "/")
    assert status == 200
    assert "<canvas" not in text  # until there are clips
    assert "http://" not in text.replace("http://www.w3.org", "")
    status, text = ask(server, "GET", "/run")
    assert status == 200
    found = json.loads(text)
    assert found["labels"] == list(model.label_names)
    assert (found["title"], found["step"], found["num_frames"]) == ("tiny", 4, 5)
    assert (found["is_guided"], found["has_tail"], found["tail_sees_label"]) == (False, True, False)


def test_the_answers_are_the_samples_of_the_model(server, model):
    asked = {**SHORT, "label": "bounce", "temperature": "0.8", "seed": 3, "guidance": None}
    status, (start, *frames, end) = ask_samples(server, asked)
    assert status == 200
    assert start == {
        "captions": ["bounce"] * 3,
        "size": [16, 16],
        "num_frames": 4,
        "num_given": 0,
    }
    assert end == {"done": True}
    assert [frame["finite"] for frame in frames] == [[True] * 3] * 4
    samples = model.sample(3, "bounce", num_frames=4, temperature=0.8, seed=3)
    np.testing.assert_array_equal(frames_of(frames), samples.videos)


def test_a_clip_is_continued_beside_its_real_frames(server, model):
    asked = {"num_videos": 2, "num_frames": 7, "clip": 1, "num_given": 2}
    _, (start, *frames, _) = ask_samples(server, asked)
    assert start["captions"] == ["validation clip 1", "continued, 0", "continued, 1"]
    assert start["num_given"] == 2
    found = frames_of(frames)
    assert found.shape == (3, 7, 16, 16, 3)
    np.testing.assert_array_equal(found[1:, :2], found[[0, 0], :2])
    assert (found[0, 5:] == 255).all()  # the clip has five frames
    samples = model.sample(first_frames=found[[0, 0], :2], num_frames=7)
    np.testing.assert_array_equal(found[1:], samples.videos)


BAD = {
    "a list": ([], "a request holds some of clip, guidance, label"),
    "an unknown name": ({"videos": 3}, "a request holds some of clip, guidance, label"),
    "no JSON": ("{", "a request is a JSON object"),
    "half a video": ({"num_videos": 0.5}, "num_videos=0.5: use a whole number from 1 to 64"),
    "too many frames": ({"num_frames": 10**6}, "num_frames=1000000: use a whole number from 1 to"),
    "no seed": ({"seed": -1}, "seed=-1: use a whole number from 0 to 4294967295"),
    "a word": ({"temperature": "hot"}, "--temperature=hot: use a number, or several with commas"),
    "a number as text": ({"temperature": 1}, "temperature=1: use a text"),
    "a cold flow": ({"temperature": "-1"}, "temperature=-1.0: use a finite number from 0 on"),
    "guidance": ({"guidance": 2}, "this run cannot be guided"),
    "a label": ({"label": "bouncing"}, "Unknown label 'bouncing'; the nearest of 8: bounce"),
    "a clip": ({"clip": 5}, "clip=5: use a whole number from 0 to 4"),
    "many given": ({"clip": 0, "num_given": 6}, "num_given=6: use a whole number from 1 to 5"),
    "all given": ({"clip": 0, "num_given": 5}, "5 frames are wanted and 5 given: ask for more"),
    "given alone": ({"num_given": 2}, "num_given goes with clip"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_sampled_is_refused_in_one_line(server, case):
    asked, message = BAD[case]
    status, (answer,) = ask_samples(server, asked)
    assert status == 400
    assert message in answer["error"]
    assert "\n" not in answer["error"]


def test_strangers_and_other_paths_are_refused(server):
    kind = {"Content_Type": "application/json"}
    for method, path, body, headers, status in (
        ("GET", "/", None, {"Host": "evil.example"}, 403),
        ("GET", "/run", None, {"Host": f"evil.example:{server.server_port}"}, 403),
        ("POST", "/sample", "{}", {**kind, "Host": "evil.example"}, 403),
        ("POST", "/sample", "{}", {**kind, "Origin": "http://evil.example"}, 403),
        ("GET", "/", None, {"Host": f"localhost:{server.server_port}"}, 200),
        ("GET", "/template.html", None, {}, 404),
        ("GET", "/../../../etc/passwd", None, {}, 404),
        ("POST", "/run", "{}", kind, 404),
        ("POST", "/sample", "{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/sample", " " * 10_001, kind, 413),
        ("PUT", "/sample", "{}", kind, 501),
    ):
        found, text = ask(server, method, path, body, **headers)
        assert found == status, (method, path, headers)
        assert "root:" not in text


def begin_samples(server, asked):
    """A connection and the answer to a request for samples, of which nothing is read yet."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/sample", json.dumps(asked), headers)
    return connection, connection.getresponse()


def test_one_request_is_sampled_at_a_time(server):
    with server.sampling:
        connection, response = begin_samples(server, SHORT)
        assert json.loads(response.readline()) == {"waiting": True}
    start, *frames, end = [json.loads(line) for line in response.read().splitlines()]
    connection.close()
    assert start["num_frames"] == len(frames) == 4
    assert end == {"done": True}


def test_a_browser_that_goes_away_ends_its_samples(server, monkeypatch):
    taken = []

    def endless(*args):
        for number in range(10**6):
            taken.append(number)
            yield {"strip": "x" * 10_000}

    monkeypatch.setattr(requests, "_answers", endless)
    connection, response = begin_samples(server, {})
    response.readline()
    response.close()
    connection.close()
    assert server.sampling.acquire(timeout=60)  # once the request has ended
    server.sampling.release()
    assert len(taken) < 10**6


def test_a_fault_is_a_line_in_the_page(server, monkeypatch, caplog):
    def broken(*args):
        yield {"captions": []}
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(requests, "_answers", broken)
    _, answers = ask_samples(server, SHORT)
    assert answers == [{"captions": []}, {"error": "sampling failed: out of memory"}]
    assert "Sampling failed" in caplog.text


def test_the_command_says_where_the_page_is_until_it_is_interrupted(run_of, call, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    code, out, err = call("play", f"--workdir={run_of('state_label')}", "--port=0")
    assert code == 0, err
    assert "Open http://127.0.0.1:" in out


def test_a_request_that_cannot_be_stopped_does_not_keep_the_process(run_of, call, monkeypatch):
    left = []
    monkeypatch.setattr(Server, "serve_forever", lambda self: None)
    monkeypatch.setattr(Server, "stop", lambda self: self.server_close())
    monkeypatch.setattr(os, "_exit", left.append)
    call("play", f"--workdir={run_of('state_label')}", "--port=0")
    assert left == [0]


def test_a_port_that_is_taken_is_refused(server):
    with pytest.raises(ConfigError, match=r"--port=\d+: Address already in use; use another --por"):
        Server(server.player, server.server_port)


@needs_browser
def test_a_browser_samples_and_shows_clips(server, model):
    complaints, urls = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        tab = browser.new_page(viewport={"width": 1000, "height": 800})
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: urls.append(request.url))
        tab.goto(server.address)
        tab.get_by_label("Label", exact=True).select_option("bounce")
        tab.get_by_label("Videos").fill("3")
        tab.get_by_label("Frames", exact=True).fill("4")
        tab.get_by_label("Temperature").fill("0.8")
        tab.get_by_label("Seed").fill("3")
        assert not tab.get_by_label("Guidance").is_visible()  # this run has none
        tab.get_by_role("button", name="Sample").click()
        tab.get_by_text("4 frames.").wait_for()
        tab.locator("#frame").fill("3")  # which also pauses
        pixels = tab.evaluate(
            """[...document.querySelectorAll('canvas')].map(
                (c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data])"""
        )
        size = tab.evaluate("document.querySelector('canvas').getBoundingClientRect().width")
        wide = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        tab.get_by_label("Continue validation clip").fill("9")
        assert tab.get_by_label("Label", exact=True).is_disabled()  # the tail does not see it
        assert not complaints
        tab.get_by_role("button", name="Sample").click()
        tab.get_by_text("clip=9: use a whole number from 0 to 4").wait_for()
        browser.close()
    shown = np.array(pixels, np.uint8).reshape(3, 16, 16, 4)
    samples = model.sample(3, "bounce", num_frames=4, temperature=0.8, seed=3)
    np.testing.assert_array_equal(shown[..., :3], samples.videos[:, 3])
    assert size == 192
    assert wide <= 0  # nothing sticks out
    assert [text for text in complaints if "400" not in text] == []
    assert {url for url in urls if not url.startswith(("data:", server.address))} == set()
