import re
import sys
from itertools import pairwise

import numpy as np
import pytest

from softline._cli import demo
from softline._cli.commands import main
from softline._cli.parser import TOYS

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def frames(path):
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            yield np.asarray(image.convert("RGB"), dtype=int)


@pytest.mark.wheel
def test_toys_are_those_of_the_command_line():
    assert tuple(demo.TOYS) == TOYS
    for toy in demo.TOYS.values():
        X, y = toy.make(random_state=0)
        assert X.shape[1] == len(toy.feature_names) == 2
        np.testing.assert_array_equal(np.unique(y), range(len(toy.class_names)))


def test_a_gif_has_a_frame_an_epoch(capsys, tmp_path):
    path = tmp_path / "circle.gif"
    assert main(["demo", "circle", "--epochs", "4", "--out", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for line in (
        r"data +circle, 200 rows",
        r"features +x, y",
        r"classes +2: outside, inside",
        r"softmax +4 epochs, loss 0\.69\d\d, accuracy \d\d\.\d\d%",
        r"mlp +4 epochs, loss 0\.\d{4}, accuracy \d\d\.\d\d%",
        rf"saved +{re.escape(str(path))}",
    ):
        assert re.search(f"^{line}$", out, re.M), out
    first, *rest = frames(path)
    assert len(rest) == 3
    with Image.open(path) as image:
        durations = [image.seek(i) or image.info["duration"] for i in range(4)]
    assert durations[-1] == 2000 and set(durations[:-1]) == {120}  # of milliseconds: it pauses at its end
    assert first.shape[1] > 2 * first.shape[0]  # side by side
    middle = first.shape[1] // 2
    for before, after in pairwise([first, *rest]):
        changed = (before != after).any(axis=2)
        assert changed[40:, middle:].mean() > 0.01  # the network's regions, not only its title


def test_regions_in_the_gif_are_those_predicted(tmp_path):
    """Where a frame is pale blue and pale orange, the model of its epoch says so."""
    toy = demo.TOYS["red-panda"]
    X, y = toy.make(random_state=0)
    run = demo.train("mlp", X, y, epochs=3, random_state=0)
    assert [len(model.loss_curve_) for model in run] == [1, 2, 3]
    assert not np.array_equal(run[0].coefs_[0], run[1].coefs_[0])
    demo.animate(tmp_path / "mlp.gif", toy, X, y, {"mlp": run})
    shares = [
        np.mean(np.abs(frame - [188, 217, 243]).max(axis=2) < 12)
        / np.mean(np.abs(frame - [255, 225, 171]).max(axis=2) < 12)
        for frame in frames(tmp_path / "mlp.gif")
    ]
    low, high = X.min(axis=0), X.max(axis=0)
    eps = 0.1 * (high - low).max()
    axes = [np.linspace(start - eps, end + eps, 100) for start, end in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    expected = [np.mean(model.predict(grid) == 0) / np.mean(model.predict(grid) == 1) for model in run]
    np.testing.assert_allclose(shares, expected, rtol=0.15)


def test_a_png_of_moments(capsys, tmp_path):
    assert (
        main(["demo", "blobs", "--epochs", "2", "--model", "softmax", "--out", str(tmp_path / "a.PNG")]) == 0
    )
    out = capsys.readouterr().out
    assert "mlp" not in out
    (picture,) = frames(tmp_path / "a.PNG")
    assert picture.shape[1] > 2 * picture.shape[0]  # epochs 1 and 2


@pytest.mark.parametrize("models", [["softmax", "mlp"], ["mlp"]])
def test_each_model_has_a_legend_beside_its_last_panel(models, tmp_path, monkeypatch):
    figures = []

    def figure(*args):
        figures.append(right(*args))
        return figures[-1]

    right = demo._figure
    monkeypatch.setattr(demo, "_figure", figure)
    toy = demo.TOYS["blobs"]
    X, y = toy.make(random_state=0)
    runs = {name: demo.train(name, X, y, epochs=3, random_state=0) for name in models}
    demo.draw(tmp_path / "a.png", toy, X, y, runs)
    demo.animate(tmp_path / "a.gif", toy, X, y, runs)
    (_, still), (_, moving) = figures
    for displays, last in ((still, 3), (moving, 1)):
        legends = [display.ax_.get_legend() is not None for display in displays]
        assert legends == [i % last == last - 1 for i in range(len(displays))]
    for display in (moving[0], moving[-1]):
        legend, plane = display.ax_.get_legend().get_window_extent(), display.ax_.get_window_extent()
        assert legend.x0 >= plane.x1  # it hides no row
    assert still[0].surface_.get_array().size >= (0.9 * plane.width) ** 2  # as fine as the picture


@pytest.mark.parametrize(("epochs", "moments"), [(1, [0]), (2, [0, 1]), (12, [0, 1, 4, 11])])
def test_the_moments_are_in_order_from_the_first_to_the_last(epochs, moments, monkeypatch):
    drawn = []

    class Picture:
        def savefig(self, path):
            pass

    def figure(toy, X, y, panels, n_columns):
        drawn.extend((name, models[epoch], n_columns) for name, models, epoch in panels)
        return Picture(), []

    monkeypatch.setattr(demo, "_figure", figure)
    demo.draw("a.png", demo.TOYS["blobs"], None, None, {name: range(epochs) for name in demo.MODELS})
    assert drawn == [(name, epoch, len(moments)) for name in demo.MODELS for epoch in moments]


def test_the_same_seed_is_the_same_picture(capsys, tmp_path):
    pictures = []
    for seed in ("1", "1", "2"):
        path = tmp_path / "a.png"
        assert main(["demo", "--epochs", "1", "--seed", seed, "--out", str(path)]) == 0
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    X, y = demo.TOYS["blobs"].make(random_state=0)
    one, other = (demo.train("mlp", X, y, epochs=1, random_state=seed)[0] for seed in (0, 1))
    assert not np.array_equal(one.coefs_[0], other.coefs_[0])


def test_an_mlp_parts_what_a_line_cannot():
    for name in ("circle", "spiral"):
        X, y = demo.TOYS[name].make(random_state=0)
        accuracy = {
            model: demo.train(model, X, y, epochs=50, random_state=0)[-1].score(X, y) for model in demo.MODELS
        }
        assert accuracy["softmax"] < 0.6
        assert accuracy["mlp"] > 0.97


@pytest.mark.parametrize(
    "args, message",
    [
        (["--out", "demo.jpg"], "--out demo.jpg: expected a name that ends with .gif or .png"),
        (["--out", "no/demo.gif"], "cannot write no/demo.gif: there is no folder "),
        ([], 'softline.plots needs matplotlib: pip install "softline[plot]"'),
    ],
)
def test_what_cannot_be_drawn(args, message, capsys, monkeypatch):
    if not args:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo", *args]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"softline: error: {message}") and err.count("\n") == 1
