import io
import re
from contextlib import redirect_stderr

import numpy as np
import pytest

from softline import SoftmaxClassifier
from softline._training.progress import EpochProgress, track_blocks
from softline._words import format_rate
from softline.neural_network import MLPClassifier

HIDE_CURSOR, SHOW_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def test_live_bar_on_a_terminal(terminal):
    with redirect_stderr(terminal), EpochProgress(100, 5000) as bar:
        bar.update(1, 2.3)
        bar.update(12, 0.51234, 0.875)
        bar.bar.refresh()
        live = terminal.getvalue()
    assert live.startswith(HIDE_CURSOR)
    last = re.sub(r"\x1b\[[0-9;]*m", "", live.rpartition(ERASE_LINE)[2])
    assert re.fullmatch(
        r"epoch 12/100 ━+╸?╺?━+ loss 0.5123  validation 87.50%  \S+ .*rows/s [\d:-]+ left", last
    )
    assert len(last) <= 80
    after = terminal.getvalue()[len(live) :]
    assert SHOW_CURSOR in after
    assert re.fullmatch(r"epoch 12/100  loss 0.5123  .*rows/s\n", after.rpartition(ERASE_LINE)[2])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_terminal_is_left_clean_after_an_exception(terminal, error):
    with pytest.raises(error), redirect_stderr(terminal), EpochProgress(100, 5000) as bar:
        bar.update(3, 0.5)
        raise error
    assert terminal.getvalue().rindex(SHOW_CURSOR) > terminal.getvalue().rindex(HIDE_CURSOR)
    assert terminal.getvalue().endswith(ERASE_LINE)


def test_one_plain_line_elsewhere(terminal, monkeypatch):
    def shown(stream):
        with redirect_stderr(stream), EpochProgress(3, 5000) as bar:
            for epoch in (1, 2, 3):
                bar.update(epoch, 1 / epoch, 0.9)
        return stream.getvalue()

    line = r"epoch 3/3  loss 0\.3333  validation 90\.00%  \S+ .?.?rows/s\n"
    assert re.fullmatch(line, shown(io.StringIO()))
    monkeypatch.setenv("TERM", "dumb")
    assert re.fullmatch(line, shown(terminal))


def test_nothing_to_say(capsys):
    with EpochProgress(3, 5000):
        pass
    with pytest.raises(ValueError), EpochProgress(3, 5000) as bar:
        bar.update(1, 0.5)
        raise ValueError
    assert capsys.readouterr() == ("", "")


def test_a_verbose_fit_shows_it(capsys):
    X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    SoftmaxClassifier(max_iter=2, tol=None, verbose=1).fit(X, y, eval_set=(X, y))
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"epoch 2/2  loss 0\.\d{4}  validation \d+\.00%  .*rows/s\n", err)
    SoftmaxClassifier(max_iter=2, tol=None).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_share_of_the_peak(terminal):
    def shown(stream):
        with redirect_stderr(stream), EpochProgress(2, 5000, flops=3e9, peak=8e9) as bar:
            bar.update(1, 0.5, 0.9, seconds=0.5)
            bar.update(2, 0.4, 0.9, seconds=1.0)
            bar.bar.refresh()
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())

    line = r"epoch 2/2  loss 0\.4000  validation 90\.00%  \S+ .?.?rows/s  4 GFLOP/s, 50% of peak\n"
    assert re.fullmatch(line, shown(io.StringIO()))
    assert re.search(r"epoch 2/2 .* left *\n +4 GFLOP/s, 50% of peak", shown(terminal))


@pytest.mark.parametrize(
    ("model", "flops"),
    [
        (SoftmaxClassifier(), 4 * 60 * 3),
        (SoftmaxClassifier(solver="random_search"), 2 * 60 * 3),
        (SoftmaxClassifier(solver="lbfgs"), None),
        (MLPClassifier((7, 5)), 3 * (4 * 20 * 7 + 6 * (7 * 5 + 5 * 3))),
        (MLPClassifier(solver="lbfgs"), None),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_very_verbose_fit(capsys, monkeypatch, model, flops):
    """Multiply-adds of the matrix products, two operations each; nothing where nobody counts them."""
    monkeypatch.setattr("softline._kernels.machine_limits.fma_peak", lambda dtype, n_threads: 1e9)
    X, y = np.random.default_rng(0).standard_normal((3, 20), np.float32), [0, 1, 2]
    model.set_params(max_iter=2, tol=1e-9, verbose=2).fit(X, y)
    _, err = capsys.readouterr()
    if flops is None:
        assert "FLOP" not in err and "rows/s" in err
        return
    rate = 2 * flops / sum(model.epoch_seconds_)
    assert err.endswith(f"  {rate / 1e9:.3g} GFLOP/s, {rate / 1e9:.0%} of peak\n")


def test_blocks(capsys, terminal):
    with track_blocks(5, "predicting", size=2) as blocks:
        assert list(blocks) == [slice(0, 2), slice(2, 4), slice(4, 6)]
    assert capsys.readouterr() == ("", "")
    with redirect_stderr(terminal), track_blocks(5, "predicting", size=2) as blocks:
        assert len(list(blocks)) == 3
    assert "predicting 5/5" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (7, "7 rows/s"),
        (950.4, "950 rows/s"),
        (12_345, "12.3 k rows/s"),
        (4.56e6, "4.56 M rows/s"),
        (2e9, "2 G rows/s"),
    ],
)
def test_rates(rate, text):
    assert format_rate(rate) == text
