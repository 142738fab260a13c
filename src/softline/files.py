"""Files that appear whole or not at all: models, reports."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from softline._typing import PathLike


def check_target(path: PathLike) -> Path:
    """Where a file written to `path` will lie, links followed.

    Raises
    ------
    OSError
        If no file can be written there.
    """
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


def write_file(path: PathLike, contents: bytes) -> None:
    """Write bytes; a failure leaves an older file as it was.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    target = check_target(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
