"""Exported models in onnxruntime: how equal they are, then how fast, beside the models themselves.

pip install "softline[onnx]" onnxruntime && python benchmarks/export.py --data-dir DIR
"""

import argparse
import timeit
import warnings

import numpy as np
import onnxruntime
from sklearn.exceptions import ConvergenceWarning

from softline import SoftmaxClassifier, datasets
from softline.export import to_onnx
from softline.linear_model import LogisticRegression
from softline.neural_network import MLPClassifier

MODELS = {
    "softmax": SoftmaxClassifier(max_iter=20, random_state=0),
    "softmax, standardised": SoftmaxClassifier(max_iter=20, standardize=True, random_state=0),
    "logistic": LogisticRegression(max_iter=50),
    "784-100-10, standardised": MLPClassifier((100,), max_iter=5, standardize=True, random_state=0),
    "784-100-50-10": MLPClassifier((100, 50), max_iter=5, random_state=0),
}


def median_time(function, *args):
    """Seconds of a call."""
    timer = timeit.Timer(lambda: function(*args))
    n = timer.autorange()[0]
    return np.median(timer.repeat(7, n)) / n


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of mnist (default: $SOFTLINE_DATA, or data)")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    data = datasets.load("mnist", data_dir=args.data_dir)
    print(f"{'':46}{'one row, µs':>22}{'10,000 rows, ms':>22}")
    print(f"{'':28}{'X':8}{'error':>10}{'onnxruntime softline':>22}{'onnxruntime softline':>22}")
    for name, model in MODELS.items():
        model.fit(data.X_train[:20000], data.y_train[:20000])
        expected = model.predict_proba(data.X_test.astype(float))
        for dtype in (np.uint8, np.float32, np.float64):
            X = data.X_test.astype(dtype)
            graph = to_onnx(model, dtype=dtype).SerializeToString()
            session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            label, probabilities = session.run(None, {"X": X})
            np.testing.assert_array_equal(label, model.predict(X))
            error = np.abs(probabilities - expected).max()
            assert error < 1e-5
            line = f"{name:28}{np.dtype(dtype).name:8}{error:10.0e}"
            for rows, unit in ((X[:1], 1e-6), (X[:10000], 1e-3)):
                theirs = median_time(session.run, ["probabilities"], {"X": rows})
                ours = median_time(model.predict_proba, rows)
                line += f"{theirs / unit:13.1f}{ours / unit:9.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
