"""Files that appear whole or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from softline._data import files

WRITE_AND_DIE = """if True:
    import os, signal, sys
    from softline._data.files import write_file

    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    write_file(sys.argv[1], b"half")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_writer_leaves_is_removed_by_the_next(tmp_path):
    target, others = tmp_path / "model", tmp_path / "other"
    for path in (target, others):
        path.write_bytes(b"old")
        done = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 4
    files.write_file(target, b"new")
    assert target.read_bytes() == b"new"
    assert len(os.listdir(tmp_path)) == 3  # what the other file's writer left stays


def test_what_another_writer_is_writing_stays(tmp_path, monkeypatch):
    replace, target = os.replace, tmp_path / "model"

    def write_meanwhile(*paths):
        monkeypatch.setattr(os, "replace", replace)
        files.write_file(target, b"second")
        replace(*paths)

    monkeypatch.setattr(os, "replace", write_meanwhile)
    files.write_file(target, b"first")
    assert target.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["model"]


def test_outputs_that_do_not_exist_yet_are_compared_by_place(tmp_path):
    files.check_outputs({"--out": tmp_path / "a", "--report": tmp_path / "b"}, [tmp_path / "c"])
    for a in (os.path.join(tmp_path, "none", "..", "a"), os.path.relpath(tmp_path / "a")):
        with pytest.raises(ValueError, match=r"--out and --report are both .*a; expected two files"):
            files.check_outputs({"--out": tmp_path / "a", "--report": a}, [])
        with pytest.raises(ValueError, match=r"--out .*a would overwrite .*a, which is read"):
            files.check_outputs({"--out": a}, [tmp_path / "a"])
