"""Option --threads of the benchmarks, and what it asks of OpenMP and OpenBLAS: import it before NumPy.

Peers run at their best, without the settings by which some machines hold OpenBLAS back.
"""

import argparse
import os

THREADS = argparse.ArgumentParser(add_help=False)
THREADS.add_argument("--threads", default="1", help="threads of both, or 'all' (default: 1)")
threads = THREADS.parse_known_args()[0].threads
if threads != "all":
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = threads
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
