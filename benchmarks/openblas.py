"""OpenBLAS at its best, for peers: import this before NumPy.

Some machines set what its kernels are chosen by, and so slow NumPy and scikit-learn down.
"""

import os

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
