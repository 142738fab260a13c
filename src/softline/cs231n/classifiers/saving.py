"""Files of parameters in ``cs231n/saved``, as the course's notebooks keep their best models."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from softline._typing import Array

FOLDER = Path("cs231n", "saved")  # of the current directory


def save_params(fname: str, params: dict[str, Array]) -> None:
    """Write parameters as the course does: `np.save` of a dict."""
    path = FOLDER / fname
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, params)  # type: ignore[arg-type]  # a dict becomes an array of one object
    print(fname, "saved.")


def load_params(fname: str) -> dict[str, Array] | None:
    """Read what `save_params` or the course wrote; None if there is no such file.

    Raises
    ------
    ValueError
        If the file holds anything but a dict of arrays. No code of the file is run.
    """
    path = FOLDER / fname
    if not path.exists():
        print(fname, "not available.")
        return None
    with open(path, "rb") as file:
        params = _read_object(file, path)
    print(fname, "loaded.")
    return params


def _read_object(file: IO[bytes], path: Path) -> dict[str, Array]:
    try:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        params = _ArrayUnpickler(file).load().item()
    except (ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: expected a dict of arrays, as save writes it: {error}") from error
    if not isinstance(params, dict) or not all(isinstance(w, np.ndarray) for w in params.values()):
        raise ValueError(f"{path}: expected a dict of arrays, as save writes it")
    return params


class Saved:
    """Mixin of classifiers whose parameters are kept in files; `_kept` is what is kept."""

    params: dict[str, Array]

    @property
    def _kept(self) -> dict[str, Array]:
        return self.params

    @_kept.setter
    def _kept(self, params: dict[str, Array]) -> None:
        self.params = params

    def save(self, fname: str) -> None:
        """Write the parameters to ``cs231n/saved/<fname>`` of the current directory, and print so."""
        save_params(fname, self._kept)

    def load(self, fname: str) -> bool:
        """Take the parameters from a file that `save`, or the course's `save`, wrote; no code in it is run.

        Returns
        -------
        loaded : bool
            False, with a printed line, if there is no such file.
        """
        params = load_params(fname)
        if params is not None:
            self._kept = params
        return params is not None


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of arrays in containers, which refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is refused")
