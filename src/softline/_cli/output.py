"""What a command prints: rows for people, JSON for programs, and messages on standard error."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from softline._words import format_size
from softline.config import print_rows

PATIENCE = 1.0  # seconds after which a command says what takes so long


@dataclass(frozen=True)
class Output:
    """Output of a command.

    Attributes
    ----------
    quiet : bool
        Whether to print nothing but JSON and errors.
    json : bool
        Whether to print JSON in the place of rows.
    """

    quiet: bool = False
    json: bool = False

    def rows(self, rows: Mapping[str, object]) -> None:
        """Print names and values, unless JSON is to come."""
        if not (self.quiet or self.json):
            print_rows(rows)
            sys.stdout.flush()

    def text(self, text: str) -> None:
        """Print lines, unless JSON is to come."""
        if not (self.quiet or self.json):
            print(text)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print facts as JSON, if that was asked for."""
        if self.json:
            print(json.dumps(facts, indent=2, default=_plain))

    def tell(self, message: object) -> None:
        """Print a message on standard error."""
        if not self.quiet:
            tell(message)

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Context that tells of a file that takes long to read."""
        size = f", {format_size(os.path.getsize(name))}" if os.path.isfile(name) else ""
        timer = threading.Timer(PATIENCE, self.tell, [f"reading {name}{size} ..."])
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def tell(message: object) -> None:
    """Print a message on standard error."""
    print(f"softline: {message}", file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    """Value of NumPy as JSON holds it; all else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
