"""Progress bars, drawn on terminals only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from softline._words import format_rate


class EpochProgress:
    """Progress of training on stderr: a live bar on a terminal, and a line at the end anywhere.

    The bar vanishes when the `with` block ends, however it ends.

    Parameters
    ----------
    max_iter : int
    n_samples : int
        Rows of an epoch.
    flops : float, default=0
        Floating-point operations of an epoch.
    peak : float or None, default=None
        Peak of the machine in floating-point operations a second; if given, the rate is shown as a share.
    """

    def __init__(self, max_iter: int, n_samples: int, flops: float = 0, peak: float | None = None) -> None:
        self.max_iter, self.n_samples, self.flops, self.peak = max_iter, n_samples, flops, peak
        self.epoch, self.seconds, self.status = 0, 0.0, ""
        self.bar = _bar("epoch")

    def __enter__(self) -> Self:
        self.start = time.perf_counter()
        self.task = self.bar.add_task("", total=self.max_iter)
        self.bar.start()
        return self

    def update(
        self,
        epoch: int,
        loss: float,
        validation_score: float | None = None,
        seconds: float = 0,
    ) -> None:
        """Show that epoch `epoch`, from 1, is done; `peak` needs `seconds`, the time in the kernels."""
        rows_per_second = epoch * self.n_samples / (time.perf_counter() - self.start)
        self.epoch, self.status = epoch, f"loss {loss:.4f}"
        if validation_score is not None:
            self.status += f"  validation {validation_score:.2%}"
        self.status += f"  {format_rate(rows_per_second)}"
        if self.peak is not None:
            self.seconds += seconds
            rate = epoch * self.flops / self.seconds
            self.status += f"\n{rate / 1e9:.3g} GFLOP/s, {rate / self.peak:.0%} of peak"
            if rate > 1.05 * self.peak:
                self.status += ", which was measured on a busy machine"
        self.bar.update(self.task, completed=epoch, description=self.status)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()
        if exc_type is None and self.epoch:
            self.bar.console.print(
                f"epoch {self.epoch}/{self.max_iter}  {self.status}".replace("\n", "  "),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def track_blocks(
    n_rows: int, what: str, *, size: int = 1000, disable: bool = False
) -> Iterator[Iterator[slice]]:
    """Context with an iterator of slices of `size` rows; a bar on stderr, named `what`, counts them."""

    def blocks() -> Iterator[slice]:
        for first in range(0, n_rows, size):
            yield slice(first, first + size)
            bar.update(task, completed=min(first + size, n_rows))

    with _bar(what, disable) as bar:
        task = bar.add_task("", total=n_rows)
        yield blocks()


def _bar(what: str, disable: bool = False) -> Progress:
    """A bar that vanishes when it stops: `what`, the share done, a description, the time left."""
    console = Console(stderr=True)
    return Progress(
        TextColumn(what + " {task.completed}/{task.total}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=console,
        expand=True,
        transient=True,
        disable=disable or not console.is_terminal or console.is_dumb_terminal,
    )
