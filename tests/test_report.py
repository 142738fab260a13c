import base64
import csv
import fcntl
import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss

from softline import SoftmaxClassifier, datasets
from softline._cli.commands import main
from softline._data.files import write_file
from softline._kernels import machine_limits
from softline._words import format_seconds
from softline.linear_model import LogisticRegression
from softline.report import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MODELS = {
    "softmax": "--epochs 3",
    "mlp": "--epochs 3 --hidden 20",
    "logistic": "--epochs 5",
    "least_squares": "",
    "knn": "",
}
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a & b"]


def train(*args):
    assert main(["train", *map(str, args), "--quiet"]) == 0


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each model on digits, and one of a table with names that are not to be trusted."""
    folder = tmp_path_factory.mktemp("report")
    for model, options in MODELS.items():
        train("digits", "--model", model, *options.split(), "--report", folder / f"{model}.html")
    X, y = load_iris(return_X_y=True)
    with open(folder / "iris.csv", "w", newline="") as file:
        rows = [[*row, HOSTILE[code]] for row, code in zip(X, y, strict=True)]
        csv.writer(file).writerows([["a", HOSTILE[0], "c", "d", "species"], *rows])
    train(folder / "iris.csv", "--epochs", "3", "--report", folder / "table.html")
    return {path.stem: path for path in folder.glob("*.html")}


class Outline(HTMLParser):
    """Headings, and what is open where it should not be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.without_alt = [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "img" and not dict(attrs).get("alt"):
            self.without_alt += 1
        if tag == "svg" and not dict(attrs).get("aria-label"):
            self.without_alt += 1
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("softmax", []),
        ("mlp", []),
        ("logistic", ["Training", "Time"]),
        ("least_squares", ["Training", "Time"]),
        ("knn", ["Training", "Templates", "Time"]),
        ("table", ["Templates"]),
    ],
)
def test_sections(pages, name, missing):
    headings = ["Training", "Templates", "Classes", "Confusion", "Worst mistakes", "Time", "Data"]
    headings += ["Parameters", "Machine"]
    outline = Outline(pages[name].read_text(encoding="utf-8"))
    assert outline.headings == [heading for heading in headings if heading not in missing]
    assert outline.open == [] and outline.without_alt == 0


def test_curves_are_of_both_sets(pages):
    text = pages["softmax"].read_text(encoding="utf-8")
    data = datasets.load_digits()
    model = SoftmaxClassifier(max_iter=3, tol=None, random_state=0)
    model.fit(data.X_train, data.y_train)
    for name, X, y in (("training", data.X_train, data.y_train), ("validation", data.X_val, data.y_val)):
        assert f"{name} accuracy" in text
        assert f"{model.score(X, y):.4g} after 3" in text
        assert f"{log_loss(y, model.predict_proba(X)):.4g} after 3" in text


def test_numbers_are_those_of_the_model(tmp_path):
    data = datasets.load_digits()
    model = SoftmaxClassifier(max_iter=3, tol=None, random_state=0)
    model.fit(data.X_train, data.y_train, eval_set=(data.X_val, data.y_val))
    write_report(tmp_path / "r.html", model, data, notes=["what was to be said", "a < b"])
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    predicted = model.predict(data.X_test)
    wrong = np.flatnonzero(predicted != data.y_test)
    assert f"{model.score(data.X_test, data.y_test):.2%}" in text
    assert f"The model is wrong on {len(wrong)} of 360 test rows." in text
    assert text.count('alt="row ') == min(len(wrong), 24)
    probabilities = model.predict_proba(data.X_test)[wrong]
    chosen = probabilities[np.arange(len(wrong)), predicted[wrong]]
    worst = wrong[chosen.argmax()]
    first = re.search(r'alt="row (\d+): (\d), taken for (\d)"', text).groups()
    assert tuple(map(int, first)) == (worst, data.y_test[worst], predicted[worst])
    shown = [float(share) for share in re.findall(r"<br>taken for \d, (.*?)%<", text)]
    assert shown == sorted(shown, reverse=True) and shown[0] == pytest.approx(100 * chosen.max(), abs=0.06)
    zeros = (predicted == 0) & (data.y_test == 0)
    assert f'<th scope="row">0</th><td class="hit" style="--share:{zeros.sum() / 36:.3f}">' in text
    assert f"{format_seconds(sum(model.epoch_seconds_))} in the kernels" in text
    assert "what was to be said" in text and "a &lt; b" in text


def test_many_classes_and_none_wrong(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(400) % 40
    X = np.eye(40)[y] + rng.normal(0, 0.4, (400, 40))
    for name, rows in (("many", X), ("clean", np.eye(40)[y])):
        np.savez(tmp_path / name, X=rows, y=y)
        train(tmp_path / f"{name}.npz", "--report", tmp_path / f"{name}.html")
    many, clean = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("many", "clean"))
    assert "The most frequent mistakes on test rows" in many and "… 28 more" in many
    assert "No test row was taken for another class" in clean and "None: every test row was right" in clean


def page(folder, model, X, y, X_test, y_test, **about):
    """The page of a model, fitted on X and y, about other rows."""
    data = datasets.Dataset("small", X, y, X[:0], y[:0], X_test, y_test, **about)
    write_report(folder / "r.html", model.fit(X, y), data)
    return (folder / "r.html").read_text(encoding="utf-8")


def cells(text, heading):
    """The rows of cells of the table below a heading."""
    table = re.search(rf"<h2>{heading}</h2>.*?<tbody>(.*?)</tbody>", text, re.DOTALL)[1]
    return [[*re.findall(r"<td>(.*?)</td>", row)] for row in table.splitlines() if row]


def test_rows_of_a_class_that_the_model_does_not_know(tmp_path):
    """It is the first of three: its probability is 0, and the others keep theirs."""
    X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array(["b", "b", "c", "c"])
    X_test, y_test = np.array([[-0.2], [0.6], [1.5], [-1.5], [0.1]]), np.array(["a", "b", "c", "b", "b"])
    model = LogisticRegression()
    text = page(tmp_path, model, X, y, X_test, y_test)
    classes = [[name, re.sub("<.*?>", "", bar), *counts] for name, bar, *counts in cells(text, "Classes")]
    assert classes == [["a", "0.0%", "1", "0"], ["b", "33.3%", "3", "2"], ["c", "100.0%", "1", "2"]]
    probability = dict(zip("bc", model.predict_proba(X_test).T, strict=True))
    taken_for = {0: "b", 1: "c", 4: "c"}
    assert cells(text, "Worst mistakes") == [
        [str(row), y_test[row], label, f"{probability[label][row]:.1%}", f"{X_test[row, 0]:.4g}"]
        for row, label in sorted(taken_for.items(), key=lambda pair: -probability[pair[1]][pair[0]])
    ]


def test_predictions_that_are_known_are_not_made_again(tmp_path, monkeypatch):
    X, y = np.array([[0.0], [1.0]] * 3), np.array([0, 1] * 3)
    model, data = LogisticRegression().fit(X, y), datasets.Dataset("small", X, y, X[:0], y[:0], X, y)
    monkeypatch.setattr(LogisticRegression, "predict", lambda *_: pytest.fail("predicts"))
    write_report(tmp_path / "r.html", model, data, predicted=np.array([0, 1, 0, 1, 0, 0]))
    assert "The model is wrong on 1 of 6 test rows." in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_image_of_two_classes_is_the_second(tmp_path):
    X = np.array([[0, 1, 0, 1], [1, 0, 1, 0]] * 3, float)
    y = np.array([0, 1] * 3)
    names = ["cat", "dog"]
    text = page(tmp_path, LogisticRegression(), X, y, X, y, image_shape=(2, 2), class_names=names)
    assert re.findall('alt="(weights of .*?)"', text) == ["weights of dog"]
    assert "images of 2 x 2" in text


def test_the_brightest_pixel_of_the_training_rows_is_white(tmp_path):
    X, y = np.array([[0.0, 8.0, 0.0, 16.0], [8.0, 0.0, 16.0, 0.0]] * 3), np.array([0, 1] * 3)
    X_test, y_test = np.array([[0.0, 20.0, 4.0, 16.0]]), np.array([1])  # a mistake
    text = page(tmp_path, LogisticRegression(), X, y, X_test, y_test, image_shape=(2, 2))
    source = re.search('src="data:image/png;base64,(.*?)" alt="row 0: 1, taken for 0"', text)[1]
    with Image.open(io.BytesIO(base64.b64decode(source))) as image:
        grey = np.asarray(image.convert("L"))
    np.testing.assert_allclose(grey, [[0, 255], [64, 255]], atol=1)


def test_parameters_that_were_changed(tmp_path):
    X, y = np.array([[0.0], [1.0]] * 3), np.array([0, 1] * 3)
    text = page(tmp_path, LogisticRegression(C=2, class_weight=None), X, y, X, y)
    changed, others = re.search("<h2>Parameters</h2>(.*?)<details>(.*?)</details>", text, re.DOTALL).groups()
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", changed) == [("C", "2")]
    assert f"<summary>{others.count('<dt>')} at their defaults</summary>" in others
    assert others.count("<dt>") == len(LogisticRegression().get_params()) - 1


def test_sealed(tmp_path):
    train("digits", "--epochs", "2", "--sealed", "--report", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<dt>test accuracy</dt><dd>sealed</dd>" in text
    assert "of 144 validation rows." in text
    assert "of 360 test rows" not in text


def test_names_do_no_harm(pages):
    text = pages["table"].read_text(encoding="utf-8")
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize("report", ["none/report.html", ".", ""])
def test_a_wrong_path_is_refused_before_the_work(tmp_path, capsys, monkeypatch, report):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softline.datasets.load", lambda *args, **kwargs: pytest.fail("work has begun"))
    assert main(["train", "digits", "--report", report]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("softline.datasets.load", lambda *args, **kwargs: pytest.fail("work has begun"))
    assert main(["train", "digits", "--report", str(tmp_path / "r.html")]) == 1
    assert 'pip install "softline[plot]"' in capsys.readouterr().err


def test_a_failure_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"] and path.read_text() == "old"


def test_the_roofline(monkeypatch):
    monkeypatch.setattr(machine_limits, "fma_peak", lambda dtype, n_threads: 1e9)
    assert machine_limits.roofline(5e9, 4096, "float32", 1) == (5.0, None)
    seconds, memory = machine_limits.roofline(1, 1 << 20, "float32", 1)
    assert 0 < seconds < 1 and memory in ("L1", "L2", "L3", "DRAM")


# ---- in a browser ----------------------------------------------------------------------------------------


class Browser:
    """Chromium without a window, driven by its DevTools protocol over a pipe.

    https://chromedevtools.github.io/devtools-protocol
    """

    def __init__(self, folder):
        (from_us, self.to), (self.of, from_it) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (from_us, from_it)]
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [BROWSER, *flags, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(3, 4),
            preexec_fn=lambda: (os.dup2(high[0], 3), os.dup2(high[1], 4)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (from_us, from_it, *high):
            os.close(fd)
        self.text, self.last, self.session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        os.close(self.to)
        os.close(self.of)
        self.process.kill()
        self.process.wait()

    def message(self):
        while b"\0" not in self.text:
            assert select.select([self.of], [], [], 60)[0], "the browser does not answer"
            self.text += os.read(self.of, 1 << 16)
        message, _, self.text = self.text.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self.message()).get("id") != self.last:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width, scheme):
        """Load a page; return the methods and URLs or texts of all that it complains of or asks for."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())
        self.value("0")  # and what comes with it
        told = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                told.append((method, json.dumps(params)))
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if url != path.as_uri() and not url.startswith("data:"):
                    told.append((method, url))
        return told

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no chromium: apt-get install chromium")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


# Elements that reach out of the page, but for those in boxes that scroll.
OUTSIDE = """[...document.querySelectorAll("body *")].filter(e =>
  !e.closest(".scroll table") && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"""
# The least contrast of texts to the page, as the W3C defines it.
CONTRAST = """(() => {
  const light = color => color.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const page = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll("h1, header p, dt, dd, th, td, figcaption, svg text")]
    .map(e => light(getComputedStyle(e)[e.closest("svg") ? "fill" : "color"]))
    .map(l => (Math.max(l, page) + 0.05) / (Math.min(l, page) + 0.05)));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_pages_in_a_browser(pages, browser, width, scheme):
    grounds = set()
    for name, path in pages.items():
        assert browser.open(path, width, scheme) == [], name
        assert browser.value("document.documentElement.scrollWidth") <= width, name
        assert browser.value(OUTSIDE) == [], name
        assert browser.value(CONTRAST) >= 4.5, name
        assert browser.value("document.scripts.length") == 0
        assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        grounds.add(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert grounds == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)"}
    names = browser.open(pages["table"], width, scheme) or browser.value(
        "[...document.querySelectorAll('.matrix tr')].slice(1).map(r => r.cells[0].textContent)"
    )
    assert names == sorted(HOSTILE)


def test_the_browser_complains(browser, tmp_path):
    """What the test above would miss if it saw nothing."""
    path = tmp_path / "bad.html"
    path.write_text("<body><p style='width:500px;color:#888'>x<img src=none.png><script>nothing()</script>")
    told = {method for method, _ in browser.open(path, 360, "light")}
    assert told >= {"Network.requestWillBeSent", "Runtime.exceptionThrown"}
    assert browser.value("document.documentElement.scrollWidth") > 360
    assert browser.value(OUTSIDE) != []
