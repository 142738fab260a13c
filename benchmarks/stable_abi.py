"""What one wheel for all versions of Python costs a call: two builds of softline, turn by turn.

python -m pip install . --no-deps --target A
python -m pip install . --no-deps --target B -Cwheel.py-api=cp311
python benchmarks/stable_abi.py A B
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import timeit

ROUNDS = 5


def measure():
    """Seconds by work, and a digest of what the works computed, for the softline on the path."""
    import numpy as np
    from sklearn.datasets import load_digits

    from softline import SoftmaxClassifier, _kernels

    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    model = SoftmaxClassifier(max_iter=20, random_state=0).fit(X, y)
    W, out = np.ascontiguousarray(model.coef_, np.float32), np.empty((1, 10), np.float32)
    works = {
        "kernel call": lambda: _kernels.scores(X[:1], None, W, None, out),
        "predict_proba of a row": lambda: model.predict_proba(X[:1]),
        "fit of 100 rows": lambda: SoftmaxClassifier(max_iter=5, random_state=0).fit(X[:100], y[:100]),
        "fit of digits": lambda: SoftmaxClassifier(max_iter=20, random_state=0).fit(X, y),
    }
    seconds = {}
    for name, work in works.items():
        n, _ = timeit.Timer(work).autorange()
        seconds[name] = min(timeit.repeat(work, number=max(1, n // 4), repeat=8)) / max(1, n // 4)
    return seconds, hashlib.sha256(model.coef_.tobytes() + model.predict_proba(X).tobytes()).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sites", nargs="*", help="folders with a softline each")
    sites = parser.parse_args().sites
    if not sites:
        print(json.dumps(measure()))
        return
    best = {site: {} for site in sites}
    digests = set()
    for _ in range(ROUNDS):
        for site in sites:
            done = subprocess.run(
                [sys.executable, __file__],
                env={**os.environ, "PYTHONPATH": site},
                capture_output=True,
                text=True,
                check=True,
            )
            seconds, digest = json.loads(done.stdout)
            digests.add(digest)
            for name, value in seconds.items():
                best[site][name] = min(value, best[site].get(name, value))
    assert len(digests) == 1, "the builds do not compute the same"
    for name, first in best[sites[0]].items():
        times = [best[site][name] for site in sites]
        print(f"{name:24}", *(f"{time * 1e6:10.2f} us {time / first:6.3f}" for time in times))


if __name__ == "__main__":
    main()
