"""The progress bar of a verbose fit."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class EpochProgress:
    """Shows on stderr how training goes: a live bar on a terminal, and one line at the end anywhere.

    The bar vanishes when the `with` block ends, however it ends.

    Parameters
    ----------
    max_iter : int
        Most epochs that will be run.
    n_samples : int
        Rows of an epoch.

    Examples
    --------
    >>> with EpochProgress(max_iter=100, n_samples=1797) as bar:  # doctest: +SKIP
    ...     bar.update(1, 0.52, 0.91)
    """

    def __init__(self, max_iter: int, n_samples: int) -> None:
        self.max_iter, self.n_samples = max_iter, n_samples
        self.epoch, self.status = 0, ""
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("epoch {task.completed}/{task.total}"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal or console.is_dumb_terminal,
        )

    def __enter__(self) -> Self:
        self.start = time.perf_counter()
        self.task = self.bar.add_task("", total=self.max_iter)
        self.bar.start()
        return self

    def update(self, epoch: int, loss: float, validation_score: float | None = None) -> None:
        """Tell that an epoch is done.

        Parameters
        ----------
        epoch : int
            Its number, from 1.
        loss : float
        validation_score : float or None
            Validation accuracy, 0..1.
        """
        rows_per_second = epoch * self.n_samples / (time.perf_counter() - self.start)
        self.epoch, self.status = epoch, f"loss {loss:.4f}"
        if validation_score is not None:
            self.status += f"  validation {validation_score:.2%}"
        self.status += f"  {format_rate(rows_per_second)}"
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
                f"epoch {self.epoch}/{self.max_iter}  {self.status}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def format_rate(rows_per_second: float) -> str:
    """Rows per second as text of three digits: "950 rows/s", "12.3 k rows/s", "4.56 M rows/s"."""
    for factor, prefix in ((1e9, "G "), (1e6, "M "), (1e3, "k ")):
        if rows_per_second >= factor:
            return f"{rows_per_second / factor:.3g} {prefix}rows/s"
    return f"{rows_per_second:.3g} rows/s"
