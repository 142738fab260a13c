"""The threads of a team under a thread sanitizer: no data race, no task lost or done twice."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"


def test_no_race_in_a_team(tmp_path):
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None or not CSRC.is_dir():
        pytest.skip("needs a C compiler and the sources")
    program = tmp_path / "team"
    command = [
        compiler,
        "-g",
        "-O1",
        "-fsanitize=thread",
        "-pthread",
        f"-I{CSRC}",
        HERE / "team.c",
        "-o",
        program,
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"no thread sanitizer here: {built.stderr[-200:]}")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel lays out memory as the thread sanitizer does not know it")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
