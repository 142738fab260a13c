"""Errors of files that are read; and writers of whole files, never in the place of an input."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

from softline._typing import Array, PathLike

if sys.platform != "win32":
    import fcntl

Part: TypeAlias = tuple[Array, Array]  # X and y


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
