"""Numbers and lists, as people read them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from difflib import get_close_matches


def counted(n: int, noun: str) -> str:
    """Number and noun: "1 row", "2 rows", "3 classes", "4 categories"."""
    if n != 1:
        noun = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun}"


def shortened(names: Iterable[object], width: int = 70) -> str:
    """Names in one line, cut where it is too long."""
    return textwrap.shorten(", ".join(map(str, names)), width, placeholder=" ...")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End of a message about a word that is not known: "; did you mean X?", or nothing."""
    close = get_close_matches(word.lower(), list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def format_rate(rows_per_second: float) -> str:
    """Rows per second as text of three digits: "950 rows/s", "12.3 k rows/s", "4.56 M rows/s"."""
    for factor, prefix in ((1e9, "G "), (1e6, "M "), (1e3, "k ")):
        if rows_per_second >= factor:
            return f"{rows_per_second / factor:.3g} {prefix}rows/s"
    return f"{rows_per_second:.3g} rows/s"


def format_seconds(seconds: float) -> str:
    """Time as text of three digits: "12.3 us", "4.56 ms", "9.1 s", "2 min 5 s"."""
    if seconds >= 99.95:
        minutes, seconds = divmod(round(seconds), 60)
        return f"{minutes} min {seconds} s"
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 0.9995:  # 999.6 ms are 1.00 s
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def format_size(n_bytes: float) -> str:
    """Size of a file: "12 kB", "85.9 MB", "2.15 GB"."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return counted(int(n_bytes), "byte")
