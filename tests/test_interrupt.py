"""Ctrl-C, as a person presses it: a signal to a process at work."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from softline import SoftmaxClassifier, load_model
from softline._cli.commands import main
from softline._solvers import objective
from softline._solvers.network_objective import NetworkObjective
from softline._training import trainer
from softline._training.progress import EpochProgress
from softline._training.trainer import Trainer
from softline.linear_model import LogisticRegression
from softline.neural_network import MLPClassifier

SHOW_CURSOR = "\x1b[?25h"
WITHOUT_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Labels that X says nothing about: there is always more to learn by heart."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, X=rng.standard_normal((3000, 1000), np.float32), y=rng.integers(0, 10, 3000))
    return path


class OnTerminal:
    """A command whose stderr is a terminal."""

    def __init__(self, *args):
        self.terminal, end = pty.openpty()
        environ = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TTY_COMPATIBLE")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "softline", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=end,
            text=True,
            env=environ,
        )
        os.close(end)
        self.err = ""

    def wait_for(self, pattern):
        while not re.search(pattern, self.err):
            assert self.read(), self.err

    def read(self):
        assert select.select([self.terminal], [], [], 60)[0], self.err
        try:
            text = os.read(self.terminal, 1 << 16)
        except OSError:  # its other end is closed
            return False
        self.err += WITHOUT_COLOUR.sub("", text.decode())
        return bool(text)

    def interrupt(self):
        """Press Ctrl-C; return the exit code and stdout."""
        self.process.send_signal(signal.SIGINT)
        while self.read():
            pass
        os.close(self.terminal)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


@pytest.mark.parametrize(
    "options", ["--learning-rate 0.001", "--model mlp --hidden 1000 --learning-rate 0.0001"]
)
def test_a_training_on_a_terminal(noise, tmp_path, options):
    path = tmp_path / "model.safetensors"
    args = [*options.split(), "--alpha", 0, "-v", "--epochs", 100_000, "--out", path]
    command = OnTerminal("train", noise, *args)
    command.wait_for(r"epoch [1-9]\d*/100000 .* [\d:-]+ left")
    command.wait_for(r"[\d.]+ GFLOP/s, [\d.]+% of peak")
    code, out = command.interrupt()
    assert code == 130
    n_iter = int(np.max(load_model(path).n_iter_))
    assert f"softline: interrupted: the model is that of {n_iter} epoch" in command.err
    assert "Traceback" not in command.err and command.err.rindex(SHOW_CURSOR) > 0
    assert re.search(rf"^epochs +{n_iter}\b", out, re.M)
    assert re.search(r"^test accuracy +[\d.]+%$", out, re.M) and f"{path}\n" in out


@pytest.mark.wheel
def test_ctrl_c_between_steps_of_logistic_regression(tmp_path, capsys, monkeypatch):
    """Its steps are too few to hit one from outside."""
    monkeypatch.setattr(
        EpochProgress, "update", lambda self, step, *_: step == 3 and signal.raise_signal(signal.SIGINT)
    )
    path = tmp_path / "model.safetensors"
    assert main(["train", "digits", "--model", "logistic", "--out", str(path)]) == 130
    out, err = capsys.readouterr()
    assert "softline: interrupted: the model is that of 3 steps\n" in err
    assert load_model(path).n_iter_.tolist() == [3]
    assert re.search(r"^steps +3$", out, re.M) and re.search(r"^test accuracy +[\d.]+%$", out, re.M)


def test_predictions_on_a_terminal(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "rows.npz", X=rng.integers(0, 256, (30_000, 3000), np.uint8), y=np.arange(30_000) % 10
    )
    command = OnTerminal("train", tmp_path / "rows.npz", "--model", "knn", "--threads", "1")
    command.wait_for(r"predicting validation rows 0/\d+ ")
    code, out = command.interrupt()
    assert code == 130, command.err
    assert "accuracy" not in out
    assert command.err.splitlines()[-1].endswith("softline: interrupted")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_second_ctrl_c_ends_at_once(tmp_path, capsys, monkeypatch):
    train = Trainer.epochs

    def epochs_with_ctrl_c(self, samples, first, *how_many):
        if first == 2:
            signal.raise_signal(signal.SIGINT)
        return train(self, samples, first, *how_many)

    monkeypatch.setattr(Trainer, "epochs", epochs_with_ctrl_c)
    monkeypatch.setattr("softline._cli.train._predicted", lambda *_: signal.raise_signal(signal.SIGINT))
    path = tmp_path / "model.safetensors"
    assert main(["train", "digits", "--out", str(path)]) == 130
    out, err = capsys.readouterr()
    assert err.endswith("interrupted: the model is that of 2 epochs\nsoftline: interrupted\n")
    assert "accuracy" not in out
    assert load_model(path).n_iter_ == 2


@pytest.mark.parametrize(
    "module", ["softline._cli.commands", "numpy", "softline.model_file", "softline._kernels.rows"]
)
def test_ctrl_c_while_a_command_starts(tmp_path, module):
    """Ctrl-C as the module is imported: before the command line is read, and after."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""if True:
        import signal, sys

        class PressCtrlC:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    exec("signal.raise_signal(signal.SIGINT)")  # as in the code of a namedtuple

        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.meta_path.insert(0, PressCtrlC())
        """
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "softline", "train", "digits"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "softline: interrupted\n")


# ---- in Python -------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
from softline import SoftmaxClassifier
from softline._solvers.network_objective import NetworkObjective
from softline.neural_network import MLPClassifier

data = np.load(sys.argv[1])
X, y = data["X"], data["y"]

def told(epoch):
    if epoch.epoch == 2:
        print("two", flush=True)

for model in (
    SoftmaxClassifier(max_iter=10**6, tol=None),
    SoftmaxClassifier(solver="lbfgs", max_iter=10**6, tol=None, alpha=0),
    SoftmaxClassifier(solver="random_local_search", max_iter=10**6),
    MLPClassifier(max_iter=10**6, tol=None),
    MLPClassifier(solver="lbfgs", max_iter=10**6, max_fun=10**9, tol=None, alpha=0),
):
    model.fit(X, y, eval_set=(X[:500], y[:500]), callback=told)
    assert len(model.loss_curve_) == len(model.validation_scores_) == model.n_iter_ >= 2
    assert model.score(X[:500], y[:500]) == model.validation_scores_[-1]
    print("usable", flush=True)
"""


def test_a_script(noise):
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", SCRIPT, noise],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(5):
        assert process.stdout.readline() == "two\n", process.stderr.read()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "usable\n", process.stderr.read()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err.count("Training interrupted by user.") == 5


def interrupting(function, call):
    """The function, but for Ctrl-C in its call number `call`."""
    calls = 0

    def interrupted(*args, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            signal.raise_signal(signal.SIGINT)
        return function(*args, **options)

    return interrupted


@pytest.mark.parametrize(
    ("model", "home"),
    [
        (SoftmaxClassifier(random_state=0), Trainer),
        (MLPClassifier(random_state=0), Trainer),
        (MLPClassifier(solver="lbfgs", random_state=0), Trainer),
        (SoftmaxClassifier(solver="lbfgs"), None),
    ],
    ids=str,
)
def test_while_it_validates(digits, monkeypatch, model, home):
    X, X_val, y, y_val = digits
    if home is None:
        monkeypatch.setattr(type(model), "_largest", interrupting(type(model)._largest, 3))
    else:
        monkeypatch.setattr(home, "accuracy", interrupting(home.accuracy, 3))
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, y, eval_set=(X_val, y_val))
    assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_) == 3
    assert model.score(X_val, y_val) == model.validation_scores_[-1]


def test_a_network_is_not_left_at_a_point_that_was_only_tried(digits, monkeypatch):
    X, _, y, _ = digits
    objective_of = NetworkObjective.__call__

    def tried(self, vector):
        value = objective_of(self, vector)
        if len(tried.values) == 7:
            signal.raise_signal(signal.SIGINT)
        tried.values.append(value)
        return value

    tried.values = []
    monkeypatch.setattr(NetworkObjective, "__call__", tried)
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = MLPClassifier(solver="lbfgs", random_state=0, max_iter=model.n_iter_, tol=None).fit(X, y)
    assert 0 < model.n_iter_ < 7
    for coef, expected in zip(model.coefs_, fits.coefs_, strict=True):
        assert np.array_equal(coef, expected)


def test_logistic_regression(digits, monkeypatch):
    """It lets Ctrl-C through, as scikit-learn's does, and can be used all the same."""
    X, _, y, _ = digits
    monkeypatch.setattr(objective.Objective, "__call__", interrupting(objective.Objective.__call__, 6))
    model = LogisticRegression()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert 0 < model.n_iter_[0] < 6
    assert model.score(X, y) > 0.9


# ---- long epochs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [SoftmaxClassifier, MLPClassifier])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_epoch_in_several_calls_gives_the_same_bits(digits, monkeypatch, model):
    X, X_test, y, _ = digits
    params = {"batch_size": 50, "max_iter": 3, "random_state": 0}
    whole = model(**params).fit(X, y).predict_proba(X_test)
    monkeypatch.setattr(trainer, "CALL_FLOPS", 1e5)
    calls = []
    descend = Trainer._descend

    def counted(*args):
        calls.append(args)
        return descend(*args)

    monkeypatch.setattr(Trainer, "_descend", counted)
    assert np.array_equal(model(**params).fit(X, y).predict_proba(X_test), whole)
    assert len(calls) > 3
