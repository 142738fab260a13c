"""What a repaired wheel must be: python .ci/check_wheel.py WHEEL

It is for one version of Python and a platform, one OpenMP runtime is inside, its types are, and no sources.
"""

import re
import sys
from pathlib import Path
from zipfile import ZipFile

RUNTIMES = r"(libgomp|libomp|libiomp5)[^/]*\.(so[.\d]*|dylib|dll)"
MODULES = {"core", "dense", "training", "descent", "neighbors", "machine"}

wheel = Path(sys.argv[1])
with ZipFile(wheel) as archive:
    names = archive.namelist()

tag = r"softline-[^-]+-(cp3\d+)-\1t?-(manylinux_2|musllinux_1|macosx|win)_\w+(\.\w+)*\.whl"
assert re.fullmatch(tag, wheel.name), f"{wheel.name} is not for one Python and a platform as PyPI takes it"

runtimes = [name for name in names if re.search(rf"/{RUNTIMES}$", name)]
assert len(runtimes) == 1, f"one OpenMP runtime was expected in {wheel.name}, found {runtimes}"

compiled = r"softline/_kernels/(\w+)\.[^/]*(so|pyd)"
modules = {match[1] for name in names if (match := re.fullmatch(compiled, name))}
assert modules == MODULES, f"compiled modules of {wheel.name}: {sorted(modules)}"

sources = [name for name in names if re.search(r"\.(pyx|pxd|c|h|o|a)$", name)]
assert not sources, f"sources in {wheel.name}: {sources}"

assert "softline/py.typed" in names, f"no py.typed in {wheel.name}"
print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {runtimes[0]}")
