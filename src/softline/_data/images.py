"""Readers of images: MNIST's idx files, and the batches of CIFAR-10.

Nothing in a file is believed before it is checked, and nothing is called that a pickle names.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import zlib
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from softline._data.files import DataError, Part, existing
from softline._typing import Array

MNIST_FROM = "https://ossci-datasets.s3.amazonaws.com/mnist/"
CIFAR10_FROM = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SHAPE = (3, 32, 32)
CIFAR10_PIXELS = math.prod(CIFAR10_SHAPE)


# ---- MNIST -----------------------------------------------------------------------------------------------


def read_mnist(path: Path, part: str) -> Part:
    """Images (n, height, width) uint8 and labels (n,) int64 of the "train" or "t10k" files."""
    images_path = _find_idx(path, f"{part}-images", "idx3-ubyte")
    labels_path = _find_idx(path, f"{part}-labels", "idx1-ubyte")
    images = _read_idx(images_path, n_axes=3)
    labels = _read_idx(labels_path, n_axes=1)
    if len(images) != len(labels):
        raise DataError(f"{labels_path}: {len(labels)} labels; expected {len(images)}, one an image")
    return images, _checked_codes(labels_path, labels)


def _find_idx(path: Path, stem: str, kind: str) -> Path:
    for folder in (path, path / "mnist"):
        for name in (f"{stem}-{kind}", f"{stem}.{kind}"):
            for found in (folder / name, folder / f"{name}.gz"):
                if found.is_file():
                    return found
    raise FileNotFoundError(
        f"no {stem}-{kind}[.gz] in {path} or {path / 'mnist'}: MNIST is train-images-idx3-ubyte.gz, "
        "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz, from "
        f"{MNIST_FROM}; --data-dir DIR (data_dir in Python, or SOFTLINE_DATA) names their folder"
    )


def _read_idx(path: Path, n_axes: int) -> Array:
    """Array of unsigned bytes in an idx file, plain or gzip."""
    zipped = path.suffix == ".gz"
    magic = bytes([0, 0, 8, n_axes])
    try:
        with (gzip.open if zipped else open)(path, "rb") as file:
            header = file.read(4 + 4 * n_axes)
            if header[:4] != magic[: len(header)] or not header:
                raise DataError(f"{path}: begins with '{header[:4].hex(' ')}'; expected '{magic.hex(' ')}'")
            if len(header) < 4 + 4 * n_axes:
                raise DataError(
                    f"{path}: ends after {len(header)} bytes; expected a header of {4 + 4 * n_axes}"
                )
            shape = tuple(np.frombuffer(header, ">u4", offset=4).tolist())
            size = math.prod(shape)
            # A header may claim any size, and read() reserves what it is asked for. So read no more than the
            # file can hold (deflate shrinks 1032-fold at most), plus a byte, to see whether it ends.
            most = path.stat().st_size * (1032 if zipped else 1)
            values = file.read(min(size, most) + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as err:
        raise DataError(f"{path}: expected a complete gzip file; found: {err}") from err
    if len(values) != size or size == 0:
        found = f"more than {size}" if len(values) > size else len(values)
        raise DataError(f"{path}: {found} values; expected {size}, of shape {shape}, and at least one")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _checked_codes(path: Path, labels: Array) -> Array:
    """Labels (n,) uint8 of ten classes as int64."""
    outside = np.flatnonzero(labels > 9)
    if outside.size:
        raise DataError(f"{path}: labels[{outside[0]}] is {labels[outside[0]]}; expected 0 to 9")
    return labels.astype(np.int64)


# ---- CIFAR-10 --------------------------------------------------------------------------------------------


def find_cifar10(path: Path) -> tuple[Path, str]:
    """Folder of the batches, and the ending of their names: "" for pickles, ".bin" for binary ones."""
    layouts = ("cifar-10-batches-py", "cifar-10-batches-bin")
    for folder in (path, *(parent / layout for parent in (path, path / "cifar10") for layout in layouts)):
        for suffix in ("", ".bin"):
            if (folder / f"data_batch_1{suffix}").is_file():
                return folder, suffix
    raise FileNotFoundError(
        f"no {layouts[0]} or {layouts[1]} in {path} or {path / 'cifar10'}: they come unpacked from "
        f"{CIFAR10_FROM}; --data-dir DIR (data_dir in Python, or SOFTLINE_DATA) names their folder"
    )


def read_cifar10_binary(path: Path) -> Part:
    """Pixels (n, 3072) uint8 and labels (n,) int64 from records of one label and 3072 pixels, a byte each."""
    record = 1 + CIFAR10_PIXELS
    size = existing(path).stat().st_size
    if size == 0 or size % record:
        raise DataError(f"{path}: {size} bytes; expected records of {record}, and at least one")
    records = np.fromfile(path, np.uint8).reshape(-1, record)
    return records[:, 1:], _checked_codes(path, records[:, 0])


def read_cifar10_pickle(path: Path) -> Part:
    """Pixels (n, 3072) uint8 and labels (n,) int64 from a pickled dictionary."""
    # From memory, because reads from a file would reserve as much as the pickle claims.
    file = io.BytesIO(existing(path).read_bytes())
    try:
        batch = _BatchUnpickler(file, encoding="bytes").load()
    except MemoryError:
        raise
    except Exception as err:  # a damaged pickle can raise nearly anything
        raise DataError(f"{path}: expected a complete CIFAR-10 batch; found: {err!r}") from err
    match batch:
        case {
            b"data": _Array(state=(_, shape, _Dtype(args=(code, *_)), fortran, bytes(pixels))),
            b"labels": list(labels),
        }:
            n = len(labels)
        case _:
            raise DataError(f"{path}: expected a dictionary of an array b'data' and a list b'labels'")
    if (
        n == 0
        or code not in (b"u1", "u1")
        or shape != (n, CIFAR10_PIXELS)
        or len(pixels) != n * CIFAR10_PIXELS
    ):
        raise DataError(
            f"{path}: {len(pixels)} bytes of b'data' for {n} labels; "
            f"expected uint8 of shape (n, {CIFAR10_PIXELS}) for n labels, and n at least 1"
        )
    try:
        labels = np.frombuffer(bytes(labels), np.uint8)
    except (TypeError, ValueError) as err:
        raise DataError(f"{path}: b'labels' has items that are not integers from 0 to 9") from err
    pixels = np.frombuffer(pixels, np.uint8).reshape(n, -1, order="F" if fortran else "C")
    return pixels, _checked_codes(path, labels)


class _Recorded:
    """Stand-in for a callable in a pickle: it keeps arguments and state, and does nothing."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Recorded):
    pass


class _Dtype(_Recorded):
    pass


class _Bytes(_Recorded, bytes):
    """Stand-in for _codecs.encode(text, "latin1"), with which Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: str, encoding: str) -> Self:
        return bytes.__new__(cls, text, "latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
}


class _BatchUnpickler(pickle._Unpickler):
    """Unpickler of containers, numbers and strings that records arrays and refuses all else.

    Derived from Python's unpickler, because the one in C reserves memory up to any index that a file names.
    """

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)
    del dispatch[pickle.BYTEARRAY8[0]]  # because it reserves as much memory as the file claims

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"{module}.{name}, which is refused")
        return _STAND_INS[module, name]
