"""The page to look at: what it holds, and that it needs no network. `make test-page` opens it in a browser."""

import base64
import json
import re
import sys
import time

import numpy as np
import pytest

pytest.importorskip("plotly")

from data import page
from data.labels import SCANNET20

RNG = np.random.default_rng(0)
XYZ = RNG.normal(size=(500, 3)).astype(np.float32)
CLASSES = RNG.choice([1, 2, 5], 500)


def figure_of(path):
    """Traces and layout, as the page hands them to plotly.js."""
    text, decode = path.read_text(), json.JSONDecoder().raw_decode
    start = re.compile(r'Plotly\.newPlot\(\s*"scan",\s*').search(text).end()
    traces, end = decode(text, start)
    layout, _ = decode(text, text.index("{", end))
    return traces, layout


def values(array):
    if isinstance(array, dict):
        return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])
    return np.array(array)


@pytest.fixture
def written(tmp_path):
    colour = RNG.integers(0, 256, (500, 3)).astype(np.uint8)
    classes = {"prediction": CLASSES, "ground truth": np.ones(500, int)}
    sure = RNG.random(500).astype(np.float32)
    said = page.write_page(tmp_path / "new" / "p.html", "a <b> & c", XYZ, SCANNET20, classes, colour, sure)
    assert said == ""
    return tmp_path / "new" / "p.html"


def test_every_point_is_there_in_every_view(written):
    traces, layout = figure_of(written)
    buttons = layout["updatemenus"][0]["buttons"]
    assert [b["label"] for b in buttons] == ["colours", "prediction", "ground truth", "confidence"]
    for button in buttons:
        shown = [t for t, visible in zip(traces, button["args"][0]["visible"], strict=True) if visible]
        points = np.concatenate([np.stack([values(t[axis]) for axis in "xyz"], 1) for t in shown])
        assert len(points) == 500 and np.allclose(np.sort(points, 0), np.sort(XYZ - XYZ.mean(0), 0), atol=1e-5)
    sure = values(traces[-1]["marker"]["color"])
    assert sure.shape == (500,) and 0 <= sure.min() < 0.1 < 0.9 < sure.max() <= 1
    prediction = [t["name"] for t, v in zip(traces, buttons[1]["args"][0]["visible"], strict=True) if v]
    share = 100 * np.mean(CLASSES == 2)
    assert f"floor {share:.1f} %" in prediction and len(prediction) == 3
    assert [t.get("visible") for t in traces] == buttons[1]["args"][0]["visible"], "it opens with the prediction"


def test_it_needs_no_network_and_names_the_librarys_licence(written):
    text = written.read_text()
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=", text)
    assert "plotly.js (MIT" in text and "a &lt;b&gt; &amp; c" in text and "<b>" not in text[:300]


def test_large_scans_are_thinned_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_POINTS", 100)
    said = page.write_page(tmp_path / "p.html", "p", XYZ, SCANNET20, {"prediction": CLASSES})
    traces, _ = figure_of(tmp_path / "p.html")
    assert "100 of 500" in said and sum(len(values(t["x"])) for t in traces) == 100
    assert any(f"{100 * np.mean(CLASSES == 1):.1f} %" in t["name"] for t in traces), (
        "shares are those of the whole scan"
    )


def test_without_plotly_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(page.PageError, match="requirements-formats"):
        page.write_page(tmp_path / "p.html", "p", XYZ, SCANNET20, {"prediction": CLASSES})


def test_a_browser_draws_it_and_its_buttons_work(written):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "headless=new",
        "no-sandbox",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        "ignore-gpu-blocklist",
    ):
        options.add_argument(f"--{flag}")
    try:
        browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    except Exception as error:
        pytest.skip(f"no Chromium with its driver (Debian: chromium, chromium-driver): {error}")
    with browser:
        browser.get(written.as_uri())
        shots = []
        for button in (None, "colours", "ground truth", "confidence"):
            if button:
                (found,) = [b for b in browser.find_elements("css selector", ".updatemenu-button") if b.text == button]
                found.click()
            shown = "return [...document.getElementById('scan')._fullData].filter(t => t.visible === true).length"
            assert browser.execute_script(shown) == {None: 3, "colours": 1, "ground truth": 1, "confidence": 1}[button]
            time.sleep(2)
            shots.append(browser.get_screenshot_as_png())
        assert len(set(shots)) == 4, "every view looks different"
        severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not severe
