"""Sources of tables: files, folders of shards and standard input; and writers of whole files."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import stat
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import IO, TypeAlias

from softline._typing import Array, PathLike

if sys.platform != "win32":
    import fcntl

Part: TypeAlias = tuple[Array, Array]  # X and y

FILE_TYPES = (".csv", ".tsv", ".npy", ".npz", ".parquet")
COMPRESSED = ".gz"  # after .csv or .tsv
# First bytes of files that are no text, by which those without a name are known.
MAGIC = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz"}
STANDARD_INPUT = "-"


class DataError(ValueError):
    """Error of a file that is damaged or holds something else than it should; it names the place."""


def existing(path: PathLike) -> Path:
    """Path of a file that exists; if it does not, FileNotFoundError."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; expected a file")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    return path


# ---- sources of tables -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source(os.PathLike[str]):
    """File with a table.

    Attributes
    ----------
    path : Path
        Where the bytes lie: `open` takes a source as it takes a path.
    name : str
        What messages call it.
    suffix : str
        One of `FILE_TYPES`, and perhaps ".gz".
    """

    path: Path
    name: str
    suffix: str

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return self.name


def file_type(path: PathLike) -> str:
    """Suffix of a name, one of `FILE_TYPES` and perhaps ".gz"; any other suffix as it is."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [COMPRESSED] else suffixes[-1:])


def is_table(path: PathLike) -> bool:
    """Whether the name of a path is that of a table."""
    suffix = file_type(path)
    return suffix in FILE_TYPES or suffix in (".csv.gz", ".tsv.gz")


def open_sources(path: PathLike) -> list[Source]:
    """Files of a table: a file, the shards of a folder in the order of their names, or standard input.

    "-", pipes and devices are read to their end into a temporary file, because tables are read twice.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no table in the folder.
    DataError
        If a file is of another kind, or shards are of several kinds.
    """
    if os.fspath(path) == STANDARD_INPUT:
        return [_copied(sys.stdin.buffer, "standard input")]
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file {path}")
    if path.is_dir():
        return _shards(path)
    if not stat.S_ISREG(path.stat().st_mode):
        with open(path, "rb") as pipe:
            return [_copied(pipe, str(path))]
    if not is_table(path):
        raise DataError(
            f"{path}: a name that ends with {file_type(path)!r}; expected {', '.join(FILE_TYPES)} or .csv.gz"
        )
    return [Source(path, str(path), file_type(path))]


def _shards(folder: Path) -> list[Source]:
    """Tables in a folder; names that begin with a dot or an underscore are left alone."""
    found = [file for file in sorted(folder.iterdir()) if is_table(file) and file.name[0] not in "._"]
    if not found:
        raise FileNotFoundError(f"{folder}: a folder without {', '.join(FILE_TYPES)} files")
    kinds = sorted({file_type(file) for file in found})
    if len(kinds) > 1:
        raise DataError(f"{folder}: shards of several kinds, {', '.join(kinds)}; expected one kind")
    return [Source(file, str(file), kinds[0]) for file in found]


def _copied(stream: IO[bytes], name: str) -> Source:
    """Source with a copy of all that a stream gives; the copy is removed with the source."""
    with tempfile.NamedTemporaryFile(prefix="softline-", delete=False) as copy:
        shutil.copyfileobj(stream, copy)
    path = Path(copy.name)
    with open(path, "rb") as file:
        first = file.read(8)
    suffix = next((suffix for magic, suffix in MAGIC.items() if first.startswith(magic)), ".csv")
    source = Source(path, name, suffix)
    weakref.finalize(source, _remove, path)
    return source


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps what is mapped
        path.unlink()


# ---- files to write --------------------------------------------------------------------------------------


def check_target(path: PathLike) -> Path:
    """Resolved path of a file to write; OSError if it cannot be written there."""
    if not os.fspath(path):
        raise FileNotFoundError("cannot write a file without a name")
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"cannot write {path}: it exists and is not a file")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: no permission to write in {target.parent}")
    return target


def check_outputs(outputs: Mapping[str, PathLike], inputs: Iterable[PathLike]) -> None:
    """Raise ValueError if an output, by the name of its option, is an input or another output."""
    for (name, path), (other, same) in combinations(outputs.items(), 2):
        if _is_same_file(path, same):
            raise ValueError(f"{name} and {other} are both {path}; expected two files")
    for source in inputs:
        for name, path in outputs.items():
            if _is_same_file(path, source):
                raise ValueError(
                    f"{name} {path} would overwrite {source}, which is read; choose another file"
                )


def _is_same_file(path: PathLike, other: PathLike) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one does not exist yet, or cannot
        return os.path.realpath(path) == os.path.realpath(other)


def write_file(path: PathLike, contents: bytes) -> None:
    """Write bytes; a failure leaves an older file as it was.

    Temporary files that dead writers of the same file left behind are removed.
    """
    target = check_target(path)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.{8 * '[0-9a-f]'}.tmp"):
        with contextlib.suppress(OSError), _locked(leftover) as nobody_writes:
            if nobody_writes:
                leftover.unlink()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        with _locked(temporary):
            with open(temporary, "wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file, and tell whether it was free; the lock ends with its process.

    Windows needs no lock here, because a file that somebody writes cannot be removed there.
    """
    if sys.platform == "win32":
        yield True
        return
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # locked, or in a file system without locks
            yield False
        else:
            yield True
