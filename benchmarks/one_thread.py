"""Option --threads of the benchmarks, what it asks of OpenMP and OpenBLAS, and a clock.

To be imported before NumPy. Peers run at their best.
"""

import argparse
import os
import time

import openblas  # noqa: F401  # isort: skip, before NumPy

THREADS = argparse.ArgumentParser(add_help=False)
THREADS.add_argument("--threads", default="1", help="threads of both, or 'all' (default: 1)")
threads = THREADS.parse_known_args()[0].threads
if threads != "all":
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = threads
# Seconds: of one thread its processor time, which holds on a busy machine; of more the time that passes.
clock = time.process_time if threads == "1" else time.perf_counter
