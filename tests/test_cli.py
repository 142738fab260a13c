import csv
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from softline import SoftmaxClassifier, datasets, load_model, optimizers, save_model, schedules
from softline._cli import parser as cli_parser
from softline._cli.commands import main
from softline._training import trainer
from softline.model_file import read_model

IRIS_NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


# The commands check names themselves; these tests compare with what the estimator says of plain arrays.
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """iris.csv with text labels in column "species", and what was trained on it and on digits."""
    folder = tmp_path_factory.mktemp("cli")
    X, y = load_iris(return_X_y=True)
    species = np.array(["setosa", "versicolor", "virginica"])[y]
    write_csv(
        folder / "iris.csv", [*IRIS_NAMES, "species"], [[*row, s] for row, s in zip(X, species, strict=True)]
    )
    write_csv(folder / "new.csv", IRIS_NAMES, X)
    assert main(["train", str(folder / "iris.csv"), "--quiet", "--out", str(folder / "iris.st")]) == 0
    assert main(["train", "digits", "--quiet", "--out", str(folder / "digits.st")]) == 0
    return folder


def write_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def run(*args, **options):
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "softline", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def accuracy(out, part="test "):
    return float(re.search(rf"^{part}accuracy +([\d.]+)%$", out, re.M)[1])


def assert_fails(capsys, args, message):
    """The command fails with one line on stderr, which holds the regular expression `message`."""
    capsys.readouterr()
    assert main(list(map(str, args))) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"softline: error: [^\n]*{message}[^\n]*\n", err), err
    assert out == ""


# ---- train -----------------------------------------------------------------------------------------------


@pytest.mark.wheel
def test_train_digits(capsys):
    assert main(["train", "digits"]) == 0
    out, err = capsys.readouterr()
    assert accuracy(out) >= 95
    assert accuracy(out, "validation ") >= 95
    assert accuracy(out, "training ") > accuracy(out)
    for line in (
        r"rows +1293 training, 144 validation, 360 test",
        r"features +64, float32",
        r"classes +10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        r"training +up to \d+ epochs, batches of \d+, sgd, learning rate auto, constant schedule, alpha .+",
        r"running on +(avx512|avx2|neon|baseline), \d+ threads?",
        r"epochs +\d+, loss 0\.\d+, learning rate [\d.]+",
        r"time per epoch +[\d.]+ [mu]?s \(median\), [\d.]+ [kMG] rows/s",
    ):
        assert re.search(rf"^{line}$", out, re.M), line
    assert re.match(r"epoch \d+/\d+  loss 0\.\d+  validation [\d.]+%", err)
    assert "Warning" not in err


def test_train_mnist(mnist_dir, capsys):
    assert main(["train", "mnist", "--data-dir", str(mnist_dir)]) == 0
    assert accuracy(capsys.readouterr().out) >= 92


def test_train_cifar10(cifar10_dir, capsys):
    assert main(["train", "cifar10", "--data-dir", str(cifar10_dir)]) == 0
    out = capsys.readouterr().out
    assert accuracy(out) >= 38
    assert "10: airplane, automobile, bird, " in out


def test_options_reach_the_estimator(tmp_path, capsys):
    options = "--epochs 2 --batch-size full --learning-rate 1e-4 --schedule cosine --alpha 0.5 --threads 2 "
    options += "--optimizer adam --l1-ratio 0.25 --label-smoothing 0.1"
    path = tmp_path / "model.safetensors"
    args = ["train", "digits", *options.split(), "--seed", "7", "--early-stopping", "--out", str(path)]
    assert main(args) == 0
    assert (
        "up to 2 epochs, full batches, adam, learning rate 0.0001, cosine schedule, alpha 0.5"
        in capsys.readouterr().out
    )
    params = {
        "max_iter": 2,
        "batch_size": None,
        "learning_rate": 1e-4,
        "schedule": "cosine",
        "alpha": 0.5,
        "optimizer": "adam",
        "l1_ratio": 0.25,
        "label_smoothing": 0.1,
        "n_threads": 2,
        "random_state": 7,
        "early_stopping": True,
    }
    assert params.items() <= load_model(path).get_params().items()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_command_is_the_same_as_the_estimator(folder):
    data = datasets.load_digits(random_state=0)
    model = SoftmaxClassifier(random_state=0)
    model.fit(data.X_train, data.y_train, eval_set=(data.X_val, data.y_val))
    loaded = load_model(folder / "digits.st")
    assert loaded.coef_.tobytes() == model.coef_.tobytes()
    assert loaded.validation_scores_ == model.validation_scores_


def test_quiet_prints_nothing_but_errors(folder, capsys):
    assert main(["train", "digits", "--quiet", "--epochs", "2"]) == 0
    assert main(["evaluate", str(folder / "digits.st"), "digits", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert_fails(capsys, ["train", "mnits", "--quiet"], "unknown data set")


def test_a_short_training_is_told_of(capsys):
    assert main(["train", "digits", "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    assert "up to 1 epoch, batches of 256" in out
    assert err.endswith("softline: still improving after 1 epoch; more of them (--epochs) may do better\n")


def test_a_training_whose_validation_stands_still_ends_without_a_warning(capsys):
    """Though its loss still falls a little."""
    assert main(["train", "digits"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^epochs +100,", out, re.M)
    assert err.count("\n") == 1 and err.startswith("epoch 100/100")


def test_a_rate_that_is_too_large(capsys):
    assert_fails(
        capsys,
        ["train", "digits", "--learning-rate", "1e9", "--quiet"],
        r"epoch \d+: learning_rate=1e\+09 is too large for these data. Up to [\d.e-]+ is stable",
    )
    assert main(["train", "digits", "--learning-rate", "50"]) == 0
    assert "\nsoftline: the loss is " in capsys.readouterr().err


def test_ctrl_c_in_training_keeps_the_weights_so_far(tmp_path, capsys, monkeypatch):
    path = tmp_path / "model.safetensors"
    train = trainer.Trainer.epochs

    def epochs_with_ctrl_c(self, samples, first, *how_many):
        if first == 5:
            signal.raise_signal(signal.SIGINT)
        return train(self, samples, first, *how_many)

    monkeypatch.setattr(trainer.Trainer, "epochs", epochs_with_ctrl_c)
    assert main(["train", "digits", "--out", str(path)]) == 130
    out, err = capsys.readouterr()
    assert err.endswith("softline: interrupted: the model is that of 5 epochs\n")
    assert "Traceback" not in err
    assert load_model(path).n_iter_ == 5
    assert accuracy(out) > 85


@pytest.mark.parametrize("where", ["softline._training.trainer.Trainer.epochs", "softline.datasets.load"])
def test_ctrl_c_before_there_is_a_model(tmp_path, capsys, monkeypatch, where):
    monkeypatch.setattr(where, lambda *args, **kwargs: signal.raise_signal(signal.SIGINT))
    assert main(["train", "digits", "--quiet", "--out", str(tmp_path / "m")]) == 130
    assert capsys.readouterr().err == "softline: interrupted\n"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("out", ["none/model.st", ".", ""])
def test_a_wrong_out_is_refused_before_the_work(tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softline.datasets.load", lambda *args, **kwargs: pytest.fail("work has begun"))
    assert_fails(capsys, ["train", "digits", "--out", out], "cannot write .*")


def test_train_refuses_two_files_in_one(tmp_path, capsys):
    out, report = str(tmp_path / "model"), str(tmp_path / "." / "model")
    assert_fails(
        capsys, ["train", "digits", "--out", out, "--report", report], "--out and --report are both .*"
    )


def test_train_least_squares(tmp_path, capsys):
    path = str(tmp_path / "m")
    assert (
        main(["train", "digits", "--model", "least_squares", "--alpha", "2", "--seed", "3", "--out", path])
        == 0
    )
    trained, err = capsys.readouterr()
    assert err == ""
    assert accuracy(trained) > 90
    assert re.search(r"^training +LeastSquaresClassifier\(alpha=2\.0, random_state=3\)$", trained, re.M)
    assert re.search(r"^time +[\d.]+ [mu]?s$", trained, re.M)
    for split, part in (("train", "training "), ("validation", "validation "), ("test", "test ")):
        assert main(["evaluate", path, "digits", "--split", split]) == 0
        out = capsys.readouterr().out
        assert accuracy(out, "") == accuracy(trained, part)
        assert "cross-entropy" not in out
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^model +LeastSquaresClassifier\(alpha=2\.0, random_state=3\)$", out, re.M)
    assert "epochs" not in out
    np.save(tmp_path / "x.npy", np.zeros((2, 64)))
    assert main(["predict", path, str(tmp_path / "x.npy")]) == 0
    assert capsys.readouterr().out.startswith("label\n")
    assert_fails(capsys, ["predict", path, tmp_path / "x.npy", "--proba"], "has no probabilities")


def test_train_logistic(tmp_path, capsys):
    path = str(tmp_path / "m")
    args = ["train", "digits", "--model", "logistic", "--epochs", "500", "--out", path]
    assert main([*args, "--alpha", "0.01", "--l1-ratio", "0.5"]) == 0
    trained = capsys.readouterr().out
    assert accuracy(trained) > 90
    assert re.search(r"^steps +\d+$", trained, re.M)
    model = load_model(path)
    assert pytest.approx(1 / (0.01 * 1293)) == model.C
    assert (model.l1_ratio, model.max_iter) == (0.5, 500)
    assert main(["evaluate", path, "digits"]) == 0
    out = capsys.readouterr().out
    assert accuracy(out, "") == accuracy(trained)
    assert "cross-entropy" in out
    assert main(["info", path]) == 0
    assert re.search(r"^steps +\d+$", capsys.readouterr().out, re.M)


@pytest.mark.wheel
def test_train_knn(capsys):
    assert (
        main(["train", "digits", "--model", "knn", "--neighbors", "3", "--metric", "l1", "--threads", "1"])
        == 0
    )
    out = capsys.readouterr().out
    assert accuracy(out) > 97
    assert "KNeighborsClassifier(metric='l1', n_jobs=1, n_neighbors=3)" in out
    assert "training accuracy" not in out


@pytest.mark.wheel
def test_train_mlp(tmp_path, capsys):
    path = str(tmp_path / "m")
    options = "--model mlp --hidden 40,20 --activation tanh --optimizer adam --learning-rate 0.01 --epochs 20"
    options += " --dropout 0.1 --standardize --schedule cosine --batch-size 100 --alpha 0.001 --threads 2"
    assert main(["train", "digits", *options.split(), "--out", path]) == 0
    out = capsys.readouterr().out
    assert accuracy(out) > 90
    assert re.search(r"^training +MLPClassifier\(.*hidden_layer_sizes=\(40, 20\)", out, re.M)
    model = load_model(path)
    assert [W.shape for W in model.coefs_] == [(64, 40), (40, 20), (20, 10)]
    assert (model.solver, model.learning_rate, model.learning_rate_init) == ("adam", "cosine", 0.01)
    assert main(["evaluate", path, "digits"]) == 0
    assert accuracy(capsys.readouterr().out, "") == accuracy(out)
    assert main(["info", path]) == 0
    assert re.search(r"^layers +64 - 40 - 20 - 10 units$", capsys.readouterr().out, re.M)


def test_solvers(tmp_path, capsys):
    """The story of the course notes: guessing, walking, and following the gradient."""
    path, found = str(tmp_path / "m"), {}
    for solver in cli_parser.SOLVERS:
        epochs = ["--epochs", "300"] if solver.startswith("random") else []
        assert main(["train", "digits", "--solver", solver, *epochs, "--out", path]) == 0
        found[solver] = accuracy(capsys.readouterr().out)
        assert main(["info", path]) == 0
        assert re.search(r"^epochs +\d+, loss", capsys.readouterr().out, re.M)
    assert load_model(path).get_params()["solver"] == "random_local_search"
    assert 10 < found["random_search"] < found["random_local_search"] < found["gd"]
    assert min(found["gd"], found["sgd"], found["lbfgs"]) > 94
    assert main(["train", "digits", "--solver", "gd", "--out", path, "--standardize"]) == 0
    model = load_model(path)
    assert (model.solver, model.batch_size, model.standardize) == ("sgd", None, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--neighbors", "3"], "--neighbors is an option of --model knn, not of softmax"),
        (
            ["--model", "knn", "--epochs", "3"],
            "--epochs is an option of --model softmax, logistic, mlp",
        ),
        (["--model", "least_squares", "--solver", "gd"], "--solver is an option of --model softmax, not of"),
        (
            ["--model", "logistic", "--threads", "1"],
            "--threads is an option of --model softmax",
        ),
        (["--model", "mlp", "--learning-rate", "auto"], "--learning-rate auto is for --model softmax"),
        (["--hidden", "10"], "--hidden is an option of --model mlp, not of softmax"),
        (["--solver", "gd", "--batch-size", "3"], "--batch-size has no effect with --solver gd"),
        (["--solver", "lbfgs", "--learning-rate", "3"], "--learning-rate has no effect with --solver lbfgs"),
        (
            ["--solver", "random_search", "--optimizer", "adam"],
            "--optimizer has no effect",
        ),
        (["--model", "knn", "--out", "m"], "a model file holds no KNeighborsClassifier"),
    ],
)
def test_options_of_another_model_are_refused(capsys, monkeypatch, args, message):
    monkeypatch.setattr("softline.datasets.load", lambda *args, **kwargs: pytest.fail("work has begun"))
    assert_fails(capsys, ["train", "digits", *args], message)


@pytest.mark.parametrize("model", ["softmax", "least_squares"])
def test_sealed(tmp_path, capsys, model):
    path = str(tmp_path / "m")
    assert main(["train", "digits", "--model", model, "--sealed", "--out", path]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^test accuracy +sealed$", out, re.M)
    assert accuracy(out, "validation ") > 90
    assert main(["info", path]) == 0
    assert "sealed, looked at: never\n" in capsys.readouterr().out
    assert main(["evaluate", path, "digits", "--split", "validation"]) == 0
    capsys.readouterr()
    assert main(["evaluate", path, "digits"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert main(["evaluate", path, "digits"]) == 0
    assert re.fullmatch(r"softline: look number 2 at this test set, [^\n]*\n", capsys.readouterr().err)
    assert main(["info", path]) == 0
    looks = re.findall(r"([\d.]+)% on \d{4}-\d\d-\d\dT", capsys.readouterr().out)
    assert list(map(float, looks)) == 2 * [accuracy(out, "")]


# ---- check-gradient --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    ["", "--alpha 1 --l1-ratio 0.5", "--model logistic", "--model least_squares", "--solver lbfgs"],
)
def test_check_gradient(folder, capsys, options):
    for data in ("digits", str(folder / "iris.csv")):
        assert main(["check-gradient", data, "--checks", "20", "--rows", "100", *options.split()]) == 0
        out, err = capsys.readouterr()
        assert re.match(r"gradient passed at 1e-07: \d+ of \d+ entries; worst \w+\[\d", out)
        assert (out.count("\n"), err) == (1, "")


def test_check_gradient_of_an_mlp(capsys):
    assert main(["check-gradient", "digits", "--model", "mlp", "--hidden", "10,10", "--rows", "50"]) == 0
    assert capsys.readouterr().out.startswith("gradient passed at 1e-07")


def test_check_gradient_fails(capsys, monkeypatch):
    from softline import gradient_check

    check = gradient_check.check_gradient

    def check_harder(*args, **options):
        return check(*args, **options, tol=-1.0)

    monkeypatch.setattr(gradient_check, "check_gradient", check_harder)
    assert_fails(capsys, ["check-gradient", "digits"], r"gradient FAILED at -1e\+00: 110 of 650 entries")
    monkeypatch.setattr(SoftmaxClassifier, "_loss_and_gradient", property())
    assert_fails(capsys, ["check-gradient", "digits"], "--model softmax has no gradient")


# ---- evaluate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["softmax", "least_squares"])
def test_evaluate_agrees_with_train(tmp_path, capsys, model):
    """The file keeps the seed of the split, so that no row that was trained on is taken for a test."""
    path, seed = str(tmp_path / "m"), 5
    assert main(["train", "digits", "--model", model, "--seed", str(seed), "--out", path]) == 0
    trained, classifier = capsys.readouterr().out, load_model(path)
    of_seed, of_none = (datasets.load("digits", random_state=s).parts for s in (seed, 0))
    for split, part in (("train", "training"), ("validation", "validation"), ("test", "test")):
        expected, other = (round(100 * classifier.score(*parts[part]), 2) for parts in (of_seed, of_none))
        assert expected != other  # or this test could not tell the splits apart
        assert main(["evaluate", path, "digits", "--split", split]) == 0
        assert accuracy(capsys.readouterr().out, "") == accuracy(trained, f"{part} ") == expected
    assert main(["evaluate", path, "digits"]) == 0
    assert accuracy(capsys.readouterr().out, "") == accuracy(trained)


def test_seeds_of_training(tmp_path, capsys):
    """--seed decides split and training; the same seed gives the same file but for its times."""
    models = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["train", "digits", "--epochs", "3", "--seed", seed, "--out", str(tmp_path / name)]) == 0
        models.append(load_model(tmp_path / name))
    capsys.readouterr()
    assert np.array_equal(models[0].coef_, models[1].coef_)
    assert not np.array_equal(models[0].coef_, models[2].coef_)
    assert [model.random_state for model in models] == [5, 5, 6]
    assert read_model(tmp_path / "c")[1]["split_seed"] == 6
    data = datasets.load("digits", random_state=5)
    by_hand = models[0].__class__(**models[0].get_params()).fit(data.X_train, data.y_train)
    assert np.array_equal(by_hand.coef_, models[0].coef_)


def test_evaluate_a_file(folder, capsys):
    assert main(["evaluate", str(folder / "iris.st"), str(folder / "iris.csv")]) == 0
    out = capsys.readouterr().out
    data = np.genfromtxt(folder / "iris.csv", delimiter=",", dtype=str, skip_header=1)
    X, y, model = data[:, :4].astype(float), data[:, 4], load_model(folder / "iris.st")
    assert "iris.csv, all: 150 rows" in out
    assert accuracy(out, "") == round(100 * np.mean(model.predict(X) == y), 2)
    p = model.predict_proba(X)[np.arange(150), np.searchsorted(model.classes_, y)]
    assert f"cross-entropy        {-np.log(p).mean():.4f}\n" in out
    table = [line.split() for line in out.splitlines()[-4:]]
    assert table[0] == ["class", "rows", "accuracy"]
    for name, rows, percent in table[1:]:
        assert rows == "50"
        assert percent == f"{np.mean(model.predict(X[y == name]) == name):.2%}"


def test_evaluate_rows_of_one_class(folder, tmp_path, capsys):
    X, y = load_iris(return_X_y=True)
    write_csv(tmp_path / "one.csv", ["species", *IRIS_NAMES], [["setosa", *row] for row in X[y == 0]])
    assert main(["evaluate", str(folder / "iris.st"), str(tmp_path / "one.csv"), "--label", "species"]) == 0
    table = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split() for line in table] == [
        ["setosa", "50", "100.00%"],
        ["versicolor", "0", "-"],
        ["virginica", "0", "-"],
    ]


@pytest.mark.parametrize(
    "kind", ["numbers that look like text", "small ints", "floats", "bools", "npz with its own parts"]
)
def test_labels_of_another_type_than_the_file_has(tmp_path, capsys, kind):
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]] * 5), np.array([0, 0, 1, 1] * 5)
    labels = {
        "numbers that look like text": y.astype(str),
        "small ints": y.astype(np.int8),
        "floats": y.astype(float),
        "bools": y.astype(bool),
    }.get(kind, y)
    save_model(SoftmaxClassifier(tol=None, learning_rate=1.0).fit(X, labels), tmp_path / "m")
    options = []
    if kind == "bools":
        np.savez(tmp_path / "data.npz", X=X, y=labels)
        file = "data.npz"
    elif kind == "npz with its own parts":
        np.savez(tmp_path / "data.npz", X_train=X, y_train=y, X_test=X, y_test=y)
        file, options = "data.npz", ["--split", "test"]
    else:
        np.save(tmp_path / "data.npy", np.column_stack([X, y]))
        file = "data.npy"
    assert main(["evaluate", str(tmp_path / "m"), str(tmp_path / file), *options]) == 0
    assert accuracy(capsys.readouterr().out, "") == 100


def test_names_of_classes_are_shown(tmp_path, capsys, monkeypatch):
    digits = datasets.load_digits()
    named = datasets.Dataset(**(vars(digits) | {"class_names": [f"number {i}" for i in range(10)]}))
    monkeypatch.setattr("softline.datasets.load", lambda *args, **kwargs: named)
    assert main(["train", "digits", "--quiet", "--out", str(tmp_path / "m")]) == 0
    assert main(["evaluate", str(tmp_path / "m"), "digits"]) == 0
    assert re.search(r"^number 7 +36 +\d+\.\d\d%$", capsys.readouterr().out, re.M)


# ---- predict ---------------------------------------------------------------------------------------------


def test_predict(folder, tmp_path, capsys):
    model, (X, _) = load_model(folder / "iris.st"), load_iris(return_X_y=True)
    assert main(["predict", str(folder / "iris.st"), str(folder / "new.csv")]) == 0
    header, *labels = capsys.readouterr().out.splitlines()
    assert header == "label"
    assert labels == model.predict(X).tolist()

    args = ["predict", str(folder / "iris.st"), str(folder / "iris.csv"), "--label", "species", "--proba"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    header, *rows = csv.reader(io.StringIO(printed))
    assert header == ["label", "p_setosa", "p_versicolor", "p_virginica"]
    assert [row[0] for row in rows] == labels
    assert np.array_equal(np.array(rows)[:, 1:].astype(float), model.predict_proba(X))

    assert main([*args, "--out", str(tmp_path / "out.csv")]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "out.csv").read_text() == printed


def test_predict_on_a_table_with_more_than_the_model_knows(folder, tmp_path, capsys):
    assert main(["predict", str(folder / "iris.st"), str(folder / "new.csv")]) == 0
    expected = capsys.readouterr().out
    assert main(["predict", str(folder / "iris.st"), str(folder / "iris.csv")]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (expected, "")  # the label of the training is left out by itself
    pd.read_csv(folder / "iris.csv").assign(id="x").to_csv(tmp_path / "more.csv", index=False)
    assert main(["predict", str(folder / "iris.st"), str(tmp_path / "more.csv")]) == 0
    out, err = capsys.readouterr()
    assert out == expected
    assert err == f"softline: {tmp_path}/more.csv: left out what the model was not trained on: 'id'\n"


@pytest.mark.parametrize("header", [True, False])
def test_row_numbers_are_left_out_by_every_command(tmp_path, capsys, header):
    rng = np.random.default_rng(0)
    table, path, model = pd.DataFrame(rng.standard_normal((60, 2))), tmp_path / "t.csv", str(tmp_path / "m")
    table.columns = ["a", "b"]
    table.assign(y=np.repeat([0, 1, 2], 20)).to_csv(path, header=header)
    assert main(["train", str(path), "--out", model]) == 0
    out, err = capsys.readouterr()
    assert f"softline: {path}: left out " in err
    assert accuracy(out) < 80
    label = "y" if header else "column 3"
    assert f"label                {label}, the last column; --label COLUMN chooses another\n" in out
    assert load_model(model).n_features_in_ == 2
    assert main(["evaluate", model, str(path)]) == 0
    assert f"label                {label.removeprefix('column ')}\n" in capsys.readouterr().out
    assert main(["evaluate", model, str(path), "--split", "test"]) == 0
    table.to_csv(tmp_path / "new.csv", header=header)
    table.to_csv(tmp_path / "plain.csv", header=header, index=False)
    capsys.readouterr()
    assert main(["predict", model, str(tmp_path / "new.csv")]) == 0
    predicted = capsys.readouterr().out
    assert main(["predict", model, str(tmp_path / "plain.csv")]) == 0
    assert capsys.readouterr().out == predicted


def test_labels_are_quoted_as_csv(tmp_path, capsys):
    X, y = [[0.0], [1.0], [2.0], [3.0]], ["a,b", "a,b", 'say "c"', 'say "c"']
    save_model(SoftmaxClassifier(tol=None).fit(X, y), tmp_path / "m")
    np.save(tmp_path / "x.npy", X)
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "x.npy"), "--proba"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["label", "p_a,b", 'p_say "c"']
    assert [row[0] for row in rows[1:]] == y


def test_a_reader_that_goes_away_is_no_error(folder, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((50_000, 64), np.float32))
    command = [
        sys.executable,
        "-m",
        "softline",
        "predict",
        folder / "digits.st",
        tmp_path / "many.npy",
        "--proba",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"label,p_0,")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_closed_output_is_no_error(folder, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, 64), np.float32))
    arguments = f"predict '{folder / 'digits.st'}' '{tmp_path / 'one.npy'}'"
    command = f"'{sys.executable}' -m softline {arguments} >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# ---- info and help ---------------------------------------------------------------------------------------


@pytest.mark.wheel
def test_info(capsys, monkeypatch):
    monkeypatch.setenv("SOFTLINE_ISA", "baseline")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for line in (
        r"softline +\d+\.\d+\.\d+",
        r"instruction set +(avx512|avx2|neon|baseline)",
        r"can run here +.*baseline",
        r"SOFTLINE_ISA +baseline",
        r"threads +\d+",
        r"OpenMP +20\d{4}",
        r"compiler +(GCC|Clang) \d+.*",
        rf"NumPy +{re.escape(np.__version__)}",
        r"scikit-learn +\d.*",
    ):
        assert re.search(rf"^{line}$", out, re.M), line


def test_info_on_a_model(folder, capsys):
    assert main(["info", str(folder / "digits.st")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"digits.st, written by softline \d", out)
    assert re.search(r"^model +SoftmaxClassifier\(random_state=0\)$", out, re.M)
    assert re.search(r"^features +64, float32, images of 8 x 8$", out, re.M)
    assert re.search(r"^classes +10, int64: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$", out, re.M)
    assert re.search(r"^epochs +\d+, loss 0\.\d+, learning rate [\d.]+$", out, re.M)
    assert main(["info", str(folder / "iris.st")]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^features +4, float64: {', '.join(IRIS_NAMES)}$", out, re.M)
    assert re.search(r"^classes +3, <U10: setosa, versicolor, virginica$", out, re.M)


@pytest.mark.wheel
def test_help_and_version_import_nothing_heavy():
    code = """if True:
        import sys
        from softline._cli.commands import main
        for args in (["--help"], ["predict", "--help"], ["bench", "--help"], ["--version"]):
            try:
                main(args)
            except SystemExit as exit:
                assert exit.code == 0
        print("heavy:", sorted({"numpy", "sklearn", "rich", "safetensors", "pandas"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("heavy: []\n"), done.stderr
    assert re.search(r"^softline \d+\.\d+\.\d+$", done.stdout, re.M)


# Options of `softline train`, and the parameters of each model that they set.
PARAMETERS = {
    "--solver {": {"softmax": "solver"},
    "--epochs N": {"softmax": "max_iter", "logistic": "max_iter", "mlp": "max_iter"},
    "--batch-size B": {"softmax": "batch_size", "mlp": "batch_size"},
    "--learning-rate LR": {"softmax": "learning_rate", "mlp": "learning_rate_init"},
    "--schedule {": {"softmax": "schedule", "mlp": "learning_rate"},
    "--alpha A": {"softmax": "alpha", "logistic": "C", "least_squares": "alpha", "mlp": "alpha"},
    "--l1-ratio R": {"softmax": "l1_ratio", "logistic": "l1_ratio", "mlp": "l1_ratio"},
    "--label-smoothing S": {"softmax": "label_smoothing", "mlp": "label_smoothing"},
    "--optimizer {": {"softmax": "optimizer", "mlp": "solver"},
    "--neighbors K": {"knn": "n_neighbors"},
    "--metric {": {"knn": "metric"},
    "--weights {": {"knn": "weights"},
    "--hidden H,...": {"mlp": "hidden_layer_sizes"},
    "--activation {": {"mlp": "activation"},
    "--dropout P": {"mlp": "dropout"},
}
# What the command line calls the defaults of other classes.
SPELT = {("C", 1.0): "1/rows", ("metric", "minkowski"): "l2", ("l1_ratio", None): "0.0"}


@pytest.mark.parametrize("command", ["train", "check-gradient"])
@pytest.mark.wheel
def test_help_tells_the_defaults_of_every_model(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    for option, models in PARAMETERS.items():
        told = re.search(rf"{re.escape(option)}[^()]*\(default: (.*?)\)", text)[1]
        first, *others = told.split("; ")
        values = dict(other.split(": ") for other in others)
        for model, name in models.items():
            default = inspect.signature(cli_parser.estimator_class(model)).parameters[name].default
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            assert values.get(model, first) == SPELT.get((name, default), shown), option
    assert tuple(schedules.BY_NAME) == cli_parser.SCHEDULES
    assert tuple(optimizers.BY_NAME) == cli_parser.OPTIMIZERS


# ---- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["fly"],
        ["train"],
        ["train", "digits", "--epochs", "0"],
        ["train", "digits", "--epochs", "1.5"],
        ["train", "digits", "--batch-size", "half"],
        ["train", "digits", "--batch-size", "0"],
        ["train", "digits", "--learning-rate", "-1"],
        ["train", "digits", "--learning-rate", "nan"],
        ["train", "digits", "--learning-rate", "fast"],
        ["train", "digits", "--alpha", "-1"],
        ["train", "digits", "--alpha", "inf"],
        ["train", "digits", "--threads", "0"],
        ["train", "digits", "--threads", "99999999999"],
        ["train", "digits", "--seed", "-1"],
        ["train", "digits", "--schedule", "linear"],
        ["train", "digits", "--optimizer", "lion"],
        ["train", "digits", "--l1-ratio", "1.5"],
        ["train", "digits", "--label-smoothing", "1"],
        ["train", "digits", "--model", "svm"],
        ["train", "digits", "--solver", "newton"],
        ["train", "digits", "--neighbors", "0"],
        ["train", "digits", "--hidden", "10,"],
        ["train", "digits", "--hidden", "0"],
        ["train", "digits", "--dropout", "1"],
        ["check-gradient"],
        ["check-gradient", "digits", "--checks", "0"],
        ["evaluate", "model"],
        ["evaluate", "model", "digits", "--split", "all"],
        ["predict", "model"],
    ],
)
def test_wrong_usage(capsys, args):
    with pytest.raises(SystemExit) as exit:
        main(args)
    assert exit.value.code == 2
    assert re.search(r"softline( [\w-]+)?: error: ", capsys.readouterr().err)


def test_wrong_data(folder, tmp_path, capsys):
    none = tmp_path / "none"
    assert_fails(capsys, ["train", "mnits"], "unknown data set 'mnits'")
    assert_fails(capsys, ["train", f"{none}.csv"], "none.csv")
    assert_fails(capsys, ["train", "mnist", "--data-dir", none], "none")
    assert_fails(capsys, ["train", "cifar10", "--data-dir", none], "none")
    assert_fails(capsys, ["train", folder / "iris.csv", "--label", "colour"], "no column 'colour'")
    assert_fails(capsys, ["evaluate", folder / "iris.st", f"{none}.csv"], "none.csv")
    assert_fails(capsys, ["predict", folder / "iris.st", f"{none}.csv"], "none.csv")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    assert_fails(capsys, ["train", tmp_path / "ragged.csv"], "ragged.csv: line 3")
    (tmp_path / "curve.csv").write_text("a,b\n" + "\n".join(f"{i},{i}.5" for i in range(20)))
    assert_fails(capsys, ["train", tmp_path / "curve.csv"], r"the last column \(b\) .* like a measurement")


def hard_link(path):
    os.link(path, path.parent / "link")
    return path.parent / "link"


def symbolic_link(path):
    (path.parent / "link").symlink_to(path)
    return path.parent / "link"


def spelt_otherwise(path):
    return path.parent / ".." / path.parent.name / path.name


@pytest.mark.parametrize("spelling", [str, spelt_otherwise, symbolic_link, hard_link])
@pytest.mark.parametrize(
    "command",
    [
        "train DATA --out SAME",
        "train DATA --report SAME",
        "train mnist --data-dir DIR --out SAME",
        "train cifar10 --data-dir DIR --out SAME",
        "predict MODEL DATA --out SAME",
        "predict DATA MODEL --out SAME",
        "export DATA SAME",
    ],
)
def test_no_command_writes_over_what_it_reads(tmp_path, capsys, command, spelling):
    data = tmp_path / "data.csv"
    if "DIR" in command:
        data = tmp_path / ("train-images-idx3-ubyte" if "mnist" in command else "data_batch_1")
    data.write_text("mine")
    words = {"DATA": data, "SAME": spelling(data), "DIR": tmp_path, "MODEL": tmp_path / "m"}
    assert_fails(
        capsys, [words.get(word, word) for word in command.split()], "would overwrite .* which is read"
    )
    assert data.read_text() == "mine"


def test_running_out_of_memory_is_told_as_such(folder, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("Unable to allocate 8 GiB")

    monkeypatch.setattr("softline.datasets.load", fail)
    assert_fails(capsys, ["train", "digits"], "out of memory: Unable to allocate 8 GiB")


def test_wrong_model(folder, tmp_path, capsys):
    whole = (folder / "digits.st").read_bytes()
    (tmp_path / "short.st").write_bytes(whole[:-1])
    altered = bytearray(whole)
    altered[-100] ^= 1
    (tmp_path / "altered.st").write_bytes(altered)
    for command in (["evaluate", "{}", "digits"], ["predict", "{}", folder / "new.csv"], ["info", "{}"]):
        for model, message in (
            (tmp_path / "none.st", "none.st"),
            (tmp_path, "is a folder; expected a model file"),
            (folder / "iris.csv", "iris.csv: not a complete safetensors file"),
            (tmp_path / "short.st", "short.st: not a complete safetensors file"),
            (tmp_path / "altered.st", "altered.st: damaged or altered"),
        ):
            assert_fails(capsys, [str(arg).format(model) for arg in command], message)


def test_data_that_are_not_the_models(folder, tmp_path, capsys):
    iris = folder / "iris.st"
    assert_fails(capsys, ["evaluate", iris, "digits"], "digits: 64 features; the model was trained on 4")
    write_csv(
        tmp_path / "known.csv", [*IRIS_NAMES, "species"], [[1, 2, 3, 4, "setosa"], [1, 2, 3, 4, "rose"]]
    )
    assert_fails(
        capsys,
        ["evaluate", iris, tmp_path / "known.csv"],
        "known.csv: labels that the model does not know: rose; its classes are setosa, versicolor, virginica",
    )
    write_csv(tmp_path / "numbers.csv", [*IRIS_NAMES, "species"], [[1, 2, 3, 4, 0], [1, 2, 3, 4, 9]])
    assert_fails(capsys, ["evaluate", iris, tmp_path / "numbers.csv"], "does not know: 0, 9;")
    write_csv(tmp_path / "other.csv", list("abcde"), np.eye(5))
    assert_fails(
        capsys,
        ["predict", iris, tmp_path / "other.csv"],
        "other.csv: 5 features; the model was trained on 4; --label COLUMN leaves one out",
    )
    np.save(tmp_path / "narrow.npy", np.zeros((3, 2)))
    assert_fails(capsys, ["predict", iris, tmp_path / "narrow.npy"], "2 features; the model was trained on 4")
    write_csv(tmp_path / "order.csv", [IRIS_NAMES[i] for i in (0, 2, 1, 3)], np.ones((2, 4)))
    assert_fails(
        capsys,
        ["predict", iris, tmp_path / "order.csv"],
        "feature 1 is 'petal_length'; the model was trained with 'sepal_width' there",
    )
    np.savez(tmp_path / "nameless.npz", X=np.ones((2, 4)))
    assert_fails(capsys, ["evaluate", iris, tmp_path / "nameless.npz"], "no labels; expected an array y")


@pytest.mark.wheel
def test_in_a_process_of_its_own(folder, tmp_path):
    done = run("train", "digits", "--epochs", "3", "--out", "model.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("model.safetensors\n")
    done = run("evaluate", "model.safetensors", "digits", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert accuracy(done.stdout, "") > 80
    done = run("evaluate", "nothing.safetensors", "digits", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("softline: error: ")
    assert done.stderr.count("\n") == 1
    done = run("info", env={**os.environ, "SOFTLINE_ISA": "avx9"})
    assert done.returncode == 1
    assert re.fullmatch(r"softline: error: SOFTLINE_ISA=avx9 cannot run here; .*\n", done.stderr)


# ---- what a newcomer types -------------------------------------------------------------------------------


def usage_error(capsys, *args):
    """The one line that a wrong usage prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main(list(args))
    out, err = capsys.readouterr()
    assert (exit.value.code, out, err.count("\n")) == (2, "", 1)
    return err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "digits", "--lr", "0.1"], "no option --lr; did you mean --learning-rate?"),
        (["train", "digits", "--epohcs=3"], "no option --epohcs; did you mean --epochs?"),
        (["train", "digits", "--xyzzy"], "no option --xyzzy; softline train --help lists them"),
        (["train", "digits", "--model", "sofmax"], "did you mean softmax?"),
        (["trian", "digits"], "did you mean train?"),
        (
            ["evaluate", "m", "digits", "--jason"],
            "softline evaluate: error: no option --jason; did you mean --json?",
        ),
    ],
)
def test_a_mistyped_word_is_one_line(capsys, args, words):
    assert words in usage_error(capsys, *args)


def help_of(capsys, *args):
    with pytest.raises(SystemExit):
        main([*args, "--help"])
    return capsys.readouterr().out


def test_help_has_groups_and_examples(capsys):
    out = help_of(capsys, "train")
    groups = re.findall(r"^(\w+):$", out, re.M)
    assert groups == ["options", "data", "model", "training", "output", "examples"]
    assert out.count("\n  softline train ") == 3


def test_help_of_a_model_has_its_options_only(capsys):
    knn = help_of(capsys, "train", "--model", "knn")
    assert "--neighbors" in knn and "--label" in knn
    assert not any(flag in knn for flag in ("--epochs", "--hidden H", "--alpha", "--C C"))
    logistic = help_of(capsys, "train", "--model=logistic")
    assert re.search(r"--C C .*\(default: 1\.0\)", " ".join(logistic.split()))
    assert "softmax:" not in logistic


def test_names_of_scikit_learn(tmp_path, capsys):
    path = str(tmp_path / "m")
    options = "--model logistic --C 0.5 --max-iter 300 --tol 0.01 --class-weight balanced --random-state 3"
    assert main(["train", "digits", *options.split(), "--out", path]) == 0
    expected = {"C": 0.5, "max_iter": 300, "tol": 0.01, "class_weight": "balanced"}
    assert expected.items() <= load_model(path).get_params().items()
    assert_fails(
        capsys, ["train", "digits", "--C", "1"], "--C is an option of --model logistic, not of softmax"
    )
    both = ["--model", "logistic", "--C", "1", "--alpha", "1"]
    assert_fails(capsys, ["train", "digits", *both], "--alpha and --C are the same penalty")


def test_class_weight(folder, tmp_path, capsys):
    path = str(tmp_path / "m")
    args = ["train", str(folder / "iris.csv"), "--out", path, "--class-weight"]
    assert main([*args, "setosa=2,virginica=0.5"]) == 0
    assert load_model(path).class_weight == {"setosa": 2, "virginica": 0.5}
    assert main(["train", "digits", "--class-weight", "3=2", "--epochs", "1", "--out", path]) == 0
    assert load_model(path).class_weight == {3: 2}
    assert_fails(capsys, [*args, "rose=2"], "no label rose; the labels are setosa, versicolor, virginica")
    assert "expected balanced, or weights" in usage_error(capsys, *args, "setosa")


def test_json(folder, tmp_path, capsys):
    path = str(tmp_path / "m")
    assert main(["train", "digits", "--json", "--quiet", "--out", path]) == 0
    out, err = capsys.readouterr()
    trained = json.loads(out)
    assert err == ""
    assert trained["rows"] == {"training": 1293, "validation": 144, "test": 360}
    assert (trained["classes"], trained["n_iter"], trained["saved"]) == (list(range(10)), 100, path)
    assert main(["evaluate", path, "digits", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["accuracy"] == trained["accuracy"]["test"]
    assert sum(row["rows"] for row in evaluated["classes"]) == evaluated["rows"] == 360
    assert main(["predict", str(folder / "iris.st"), str(folder / "new.csv"), "--json", "--proba"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["classes"] == ["setosa", "versicolor", "virginica"]
    largest = np.argmax(predicted["probabilities"], axis=1)
    assert predicted["labels"] == [predicted["classes"][i] for i in largest]
    for args, name in ((["info", path], "estimator"), (["info"], "scikit-learn")):
        assert main([*args, "--json"]) == 0
        assert name in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.onnx"])
def test_a_model_file_is_not_named_as_another_format(tmp_path, capsys, name):
    assert_fails(capsys, ["train", "digits", "--out", tmp_path / name], r"name it .*m\.safetensors")
    assert not (tmp_path / name).exists()


def test_folds(capsys):
    assert main(["train", "digits", "--folds", "3", "--json", "--epochs", "3"]) == 0
    scores = json.loads(capsys.readouterr().out)["fold_accuracies"]
    assert len(scores) == 3 and min(scores) > 0.8 and len(set(scores)) > 1
    assert main(["train", "digits", "--folds", "3", "--epochs", "3"]) == 0
    told = re.search(r"^3 folds +([\d.]+)%, standard deviation", capsys.readouterr().out, re.M)
    assert float(told[1]) == pytest.approx(100 * np.mean(scores), abs=0.01)


def test_rows_of_a_test_file(folder, tmp_path, capsys):
    iris, path = pd.read_csv(folder / "iris.csv"), str(tmp_path / "m")
    iris[iris.index % 3 > 0].to_csv(tmp_path / "train.csv", index=False)
    iris[iris.index % 3 == 0][iris.columns[::-1][[0, 4, 3, 2, 1]]].to_csv(tmp_path / "test.csv", index=False)
    args = ["train", str(tmp_path / "train.csv"), "--label", "species", "--test", str(tmp_path / "test.csv")]
    assert main([*args, "--json", "--out", path]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["rows"] == {"training": 90, "validation": 10, "test": 50}
    assert main(["evaluate", path, str(tmp_path / "test.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == trained["accuracy"]["test"]
    assert main(["evaluate", path, args[1], "--split", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == trained["accuracy"]["validation"]
    assert_fails(capsys, ["evaluate", path, args[1], "--split", "test"], "has no test rows")
    iris.assign(species="rose").to_csv(tmp_path / "test.csv", index=False)
    assert_fails(capsys, args, "has the label rose, which training does not have")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Table with a column of text, one of dates, an empty cell, and the label in the middle."""
    iris = load_iris(as_frame=True)
    frame = iris.frame.set_axis([*IRIS_NAMES, "species"], axis=1)
    frame.insert(0, "colour", np.array(["red", "green", "blue"])[np.arange(150) % 3])
    frame.insert(1, "kind", iris.target_names[frame.pop("species")])
    frame["date"] = [f"2020-{i // 28 + 1}-{i % 28 + 1}" for i in range(150)]
    frame.loc[7, "petal_width"] = np.nan
    path = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    frame.to_csv(path, index=False)
    return path


def test_all_bad_columns_are_named_with_the_options_that_would_do(mixed, capsys):
    args = ["train", str(mixed), "--label", "kind"]
    message = r"line 2, column 'colour' .* line 9, column 'petal_width' holds ''; line 2, column 'date' .*; "
    options = "--categorical colour --drop date --missing mean"
    assert_fails(capsys, args, rf"{message}expected finite numbers; {options} would read them")
    assert main([*args, *options.split()]) == 0


@pytest.mark.parametrize("model", ["softmax", "logistic"])
def test_a_model_remembers_how_its_table_was_read(mixed, tmp_path, capsys, model):
    path = str(tmp_path / "m")
    options = ["--label", "kind", "--categorical", "colour", "--drop", "date", "--missing", "mean"]
    assert main(["train", str(mixed), *options, "--model", model, "--out", path]) == 0
    trained = capsys.readouterr().out
    assert main(["evaluate", path, str(mixed), "--split", "test"]) == 0
    assert accuracy(capsys.readouterr().out, "") == accuracy(trained)
    assert main(["evaluate", path, str(mixed)]) == 0
    out, err = capsys.readouterr()
    assert (accuracy(out, "") > 90, err) == (True, "")
    loaded = load_model(path)
    assert list(loaded.feature_names_in_[4:]) == ["colour_blue", "colour_green", "colour_red"]

    frame = pd.read_csv(mixed).drop(columns=["kind", "date"])
    assert main(["predict", path, str(mixed)]) == 0
    expected = capsys.readouterr().out
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", path, str(tmp_path / "new.csv")]) == 0
    assert capsys.readouterr() == (expected, "")
    frame.assign(colour="pink").to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", path, str(tmp_path / "new.csv")]) == 0
    assert (
        "column 'colour' has values that training had not, of no category: 'pink'" in capsys.readouterr().err
    )


def test_missing_cells(mixed, tmp_path, capsys):
    args = ["train", str(mixed), "--label", "kind", "--categorical", "colour", "--drop", "date"]
    path = str(tmp_path / "m")
    assert main([*args, "--missing", "drop", "--out", path]) == 0
    out, err = capsys.readouterr()
    assert "left out 1 row of 150, which lack a number" in err
    assert sum(map(int, re.search(r"rows +(\d+) \w+, (\d+) \w+, (\d+) test", out).groups())) == 149
    assert_fails(capsys, ["predict", path, mixed], "line 9, column 'petal_width' holds ''")
    assert main(["evaluate", path, str(mixed)]) == 0
    assert ": 149 rows\n" in capsys.readouterr().out


def test_a_column_by_position_without_a_header(mixed, tmp_path, capsys):
    rows, path = pd.read_csv(mixed).fillna(0), str(tmp_path / "m")
    rows.to_csv(tmp_path / "rows.csv", index=False, header=False)
    options = ["--label", "1", "--categorical", "0", "--drop", "6"]
    assert main(["train", str(tmp_path / "rows.csv"), *options, "--out", path]) == 0
    capsys.readouterr()
    printed = []
    for left_out in ([], ["kind"], ["kind", "date"]):
        rows.drop(columns=left_out).to_csv(tmp_path / "new.csv", index=False, header=False)
        assert main(["predict", path, str(tmp_path / "new.csv")]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    assert len(set(printed[0].split())) == 4  # the header and three classes


def test_dtype(tmp_path, folder, capsys):
    path = str(tmp_path / "m")
    for data in ("digits", str(folder / "iris.csv")):
        assert main(["train", data, "--dtype", "float32", "--out", path]) == 0
        assert re.search(r"^features +\d+, float32$", capsys.readouterr().out, re.M)
        assert load_model(path).coef_.dtype == np.float32


def test_standard_input(folder, tmp_path):
    text = (folder / "iris.csv").read_text()
    done = run("train", "-", "--out", "m", cwd=tmp_path, input=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("data                 standard input\n")
    for name in ("-", "/dev/stdin"):
        done = run("predict", "m", name, cwd=tmp_path, input=text)
        assert done.stdout.count("\n") == 151, done.stderr
    done = run("predict", "m", "-", cwd=tmp_path, input="a,b,c\n1,2,x\n3,4,y\n")
    assert done.stderr == (
        "softline: error: standard input: line 2, column 'c' holds 'x'; expected a finite number; "
        "if the column is the label, name it as such\n"
    )


def test_soft_targets_beside_their_rows(tmp_path, capsys):
    digits, path = datasets.load_digits(), str(tmp_path / "m")
    np.save(tmp_path / "X.npy", digits.X_train)
    np.save(tmp_path / "y.npy", digits.y_train)
    np.save(tmp_path / "soft.npy", 0.9 * np.eye(10)[digits.y_train] + 0.01)
    args = ["train", str(tmp_path / "X.npy"), "--labels", str(tmp_path / "soft.npy")]
    assert main([*args, "--out", path]) == 0
    out = capsys.readouterr().out
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, rows of probabilities\n" in out and accuracy(out) > 90
    found = []
    for labels in ("soft.npy", "y.npy"):
        assert main(["evaluate", path, args[1], "--labels", str(tmp_path / labels)]) == 0
        found.append(capsys.readouterr().out)
    assert accuracy(found[0], "") == accuracy(found[1], "") > 90
    assert re.search("cross-entropy.*", found[0])[0] != re.search("cross-entropy.*", found[1])[0]
    assert_fails(
        capsys, [*args, "--model", "knn"], "--model knn takes labels; rows of probabilities are for softmax"
    )
    assert (
        main(["train", args[1], "--labels", str(tmp_path / "y.npy"), "--folds", "2", "--model", "knn"]) == 0
    )


def test_a_long_reading_is_told_of(folder, capsys, monkeypatch):
    load = datasets.load

    def load_after_the_timer(*args, **options):
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
        return load(*args, **options)

    monkeypatch.setattr("softline.datasets.load", load_after_the_timer)
    monkeypatch.setattr("softline._cli.output.PATIENCE", 0)
    assert main(["train", str(folder / "iris.csv")]) == 0
    assert re.match(r"softline: reading .*iris\.csv, [\d.]+ kB \.\.\.\n", capsys.readouterr().err)
    assert main(["train", str(folder / "iris.csv"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(capsys, shell):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as exit:
        main(["--completion", shell])
    out = capsys.readouterr().out
    assert not exit.value.code
    assert "check-gradient" in out and "--learning-rate" in out


def test_completion_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as exit:
        main(["--completion", "bash"])
    assert exit.value.code == 1
    assert capsys.readouterr().err.endswith('pip install "softline[completion]"\n')


def test_errors_about_published_data_say_where_they_come_from(tmp_path, capsys):
    for name, words in (
        ("mnist", "t10k-labels-idx1-ubyte.gz, from https://"),
        ("cifar10", "cifar-10-python.tar.gz"),
    ):
        assert_fails(capsys, ["train", name, "--data-dir", tmp_path], rf"{words}.*--data-dir")
