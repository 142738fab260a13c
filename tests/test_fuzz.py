"""Random calls of every compiled function: a call agrees with its twin, or it is refused in words.

Half of the calls are sound, the others have one argument spoiled: of another shape, dtype or layout,
misaligned, read-only, a list, None, a number that makes no sense. Nothing but ValueError, TypeError and
IndexError may come of it, and no call may end the process, or read or write where it should not: see
"Sanitizers" in CONTRIBUTING.md.

    python tests/test_fuzz.py 100000 0                # calls, seed
    python tests/test_fuzz.py 1000000 0 --no-twins    # for sanitizers: results are not compared
"""

import contextlib
import copy
import sys

import numpy as np
import pytest
from sklearn.neighbors import KDTree

from softline import _kernels, optimizers, reference

REFUSED = (ValueError, TypeError, IndexError)


def random_arguments(rng, name):
    """Sound arguments of a kernel by name, for a random shape, and n_threads."""
    real = rng.choice([np.float32, np.float64])
    sizes = [0, 1, 2, 3, 7, 15, 16, 17, 33, 70]
    n, D = (int(rng.choice(sizes)) for _ in range(2))
    C, H = (int(rng.choice([1, 2, 3, 5, 10, 17])) for _ in range(2))
    n_threads = [None, 1, 2, 3][rng.integers(4)]

    def array(*shape, dtype=real):
        a = rng.standard_normal(shape).astype(dtype)
        if a.ndim == 2 and rng.random() < 0.3:  # rows further apart
            a = np.concatenate([a, a], axis=1)[:, : a.shape[1]]
        return a

    def X():
        dtype = rng.choice([real, np.uint8, np.float16]) if real is np.float32 else real
        return (3 * rng.standard_normal((n + 2, D))).astype(dtype)

    def labels(rows, high=C):
        return rng.integers(0, high, rows).astype(np.int32)

    idx = None if rng.random() < 0.2 else rng.integers(0, n + 2, n)
    rows = n + 2 if idx is None else n
    geometry = (array(D), np.abs(array(D))) if rng.random() < 0.5 else (None, None)
    names = list(optimizers.BY_NAME)
    optimizer = optimizers.BY_NAME[names[rng.integers(len(names))]]
    threads = {"n_threads": n_threads}

    def layers():
        hidden = [(array(H, max(D, 1)), array(H))] if rng.random() < 0.5 else []
        n_in = H if hidden else max(D, 1)
        return [*hidden, (array(C, n_in), array(C))]

    if name == "scores":
        return [X(), idx, array(C, D), array(C), array(rows, C)], threads
    if name == "probabilities":
        x = X()
        return [x, array(C, D), array(C), array(len(x), 2 if C == 1 else C)], threads | {
            "log": bool(rng.random() < 0.5)
        }
    if name == "classes":
        x = X()
        names = rng.permutation(2 * C + 2)[: max(C, 2) if C else 0].astype(rng.choice(["i8", "f4", "U3"]))
        return [x, array(C, D), array(C), names, np.zeros(len(x), int).astype(names.dtype)], threads
    if name == "gradient":
        return [X(), idx, array(rows, C), array(C, D), array(C)], threads
    if name in ("softmax", "log_softmax"):
        return [array(n, C)], threads
    if name == "cross_entropy":
        return [array(n, C), labels(n), array(n)], threads | {"label_smoothing": rng.choice([0.0, 0.1])}
    if name == "cross_entropy_gradient":
        targets = rng.dirichlet(np.ones(C), n).astype(real).reshape(n, C)
        y = labels(n) if rng.random() < 0.5 else targets
        return [array(n, C), y, np.abs(array(n)), array(n)], threads
    if name == "hinge_gradient":
        return [array(n, C), labels(n), np.abs(array(n)), array(n)], threads
    if name == "step":
        W = array(C, D)
        state = optimizers.State(optimizer, W)
        if state.W.size:
            state.W[...], state.b[...] = np.abs(array(*state.W.shape)), np.abs(array(*state.b.shape))
        args = [W, array(C), array(C, D), array(C), 0.1, 0.01, *geometry, bool(rng.random() < 0.8)]
        return args, threads | {"optimizer": optimizer, "state": state, "l1": rng.choice([0.0, 0.1])}
    if name == "clip_gradient":
        return [array(C, D), array(C), float(rng.choice([0.1, 1e6])), *geometry], threads
    if name == "project_rows":
        return [array(C, D), array(C), float(rng.choice([0.1, 1e6])), geometry[0]], threads
    if name == "column_stats":
        x = X()
        return [x, idx, np.abs(array(rows)) if rng.random() < 0.5 else None], threads
    if name == "affine":
        W = array(H, D) if rng.random() < 0.5 else array(D, H).T
        return [array(n, D), W, array(H), array(n, H)], threads
    if name == "activate":
        return [array(n, D), str(rng.choice(list(_kernels.ACTIVATIONS)))], threads
    if name == "activation_gradient":
        return [np.abs(array(n, D)), str(rng.choice(list(_kernels.ACTIVATIONS))), array(n, D)], threads
    if name == "dropout":
        return [array(n, D), 0.3, int(rng.integers(2**32))], threads
    if name == "network_scores":
        return [array(n + 2, max(D, 1)), idx, layers(), "tanh", array(rows, C)], threads
    x, weight = array(n + 2, max(D, 1)), np.abs(array(n + 2)) + real(0.1)
    if name == "gradients":
        stack = layers()
        return [x, labels(n + 2), weight, idx, stack, copy.deepcopy(stack), 0.5], threads
    if name == "epoch":
        stack, B = layers(), int(rng.integers(1, n + 4))
        order = rng.integers(0, n + 2, n)
        batches = -(-n // B)
        if rng.random() < 0.3:  # several models
            M = int(rng.integers(1, 4))
            stack, batches, weight = [(array(M * C, max(D, 1)), array(M * C))], (batches, M), [weight] * M
        rates, alphas = np.full(batches, 1e-3), np.full(batches, 0.1)  # rounding may turn a step
        states = [optimizers.State(optimizer, W) for W, _ in stack]
        options = threads | {"optimizer": optimizer, "states": states, "activation": "tanh"}
        if rng.random() < 0.5:
            options |= {"clip_norm": 0.5, "max_norm": 1.5, "l1s": alphas / 10, "label_smoothing": 0.1}
        scales = np.full(batches, 1 / B, real)
        if rng.random() < 0.3:  # several epochs
            E = int(rng.integers(1, 4))
            order, rates, alphas, scales = (np.concatenate([a] * E) for a in (order, rates, alphas, scales))
            options |= {"starts": array(E, sum(W.size for W, _ in stack))}
            if "l1s" in options:
                options["l1s"] = alphas / 10
        return [x, labels(n + 2), weight, order, stack, rates, B, alphas, scales], options
    if name == "loss_gradient":
        return [x, labels(n + 2), weight, array(C, x.shape[1]), array(C), np.empty((C, x.shape[1])),
                np.empty(C)], threads  # fmt: skip
    if name == "newton":
        R = 1 if C <= 2 else C
        y, D = labels(n + 2, max(C, 2)), x.shape[1]
        l2, l1 = np.full(D + 1, 0.1), np.full(D + 1, 0.01) if rng.random() < 0.5 else None
        weight = None if weight is None else weight.astype(float)
        if l1 is not None and rng.random() < 0.5:
            threads["by_columns"] = True
        return [x, y, weight, l2, l1, rng.random() < 0.8, np.zeros((R, D + 1)), 1e-4, 40], threads
    if name == "candidate_losses":
        K = int(rng.integers(0, 4))
        return [x, labels(n + 2), weight, array(K, C, x.shape[1]), array(K, C), np.empty(K)], threads
    if name == "coordinate_descent":
        A = rng.standard_normal((2 * D + 1, D))
        A, K = (A.T @ A / (2 * D + 1) + np.eye(D)).astype(real), int(rng.integers(3))
        return [A, 1.5, 0.1 * array(K, C, D, dtype=float), np.ones(K), array(C, D, dtype=float),
                np.ones(D), array(C, D, dtype=float), 1e-3, 20], {}  # fmt: skip
    if name == "duality_gap":
        penalties = (np.abs(array(D, dtype=float)) * (rng.random(D) < 0.5) for _ in range(2))
        Z, G = (array(C, D, dtype=float) for _ in range(2))
        return [np.ascontiguousarray(Z), 9.0, np.ascontiguousarray(G), *penalties], {}
    if name == "invert_factor":
        A = rng.standard_normal((2 * D + 1, D))
        return [A.T @ A / (2 * D + 1) + np.eye(D), np.empty((D, D)), 1e-9], {}
    if name == "gram":
        return [X(), idx, np.abs(array(rows)), 0.5, np.empty((D + 1, D + 1), real)], threads
    if name == "precondition":
        V = None if rng.random() < 0.3 else np.triu(array(D, D))
        G, mean, roots = (array(*shape, dtype=float) for shape in ((C, D), (max(D - 1, 0),), (D,)))
        return [G, mean, np.abs(roots) + 0.1, V, np.empty((C, D))], threads
    if name in ("first_loop", "second_loop"):
        G, pairs = rng.standard_normal((C, D)), rng.standard_normal((2, 4, C, D))
        order = rng.permutation(4)[: rng.integers(0, 5)]
        return [G, *pairs, 1 + rng.random(4), order, np.empty(len(order))], {}
    k = int(rng.integers(0, min(3, n + 2) + 1))
    metric = str(rng.choice(_kernels.METRICS))
    if name == "distances":
        return [X(), X(), metric, np.empty((n + 2, n + 2))], threads
    assert name == "nearest"
    data = X()
    options = threads | {"tree": KDTree(data.astype(float), 2)} if D and rng.random() < 0.5 else threads
    return [X(), data, metric, np.empty((n + 2, k)), np.empty((n + 2, k), np.intp)], options


KERNELS = sorted(set(dir(_kernels)) & {name for name in dir(reference) if callable(getattr(reference, name))})
SENSELESS = [-1, 0, 2**70, -(2**70), np.nan, np.inf, "nope", None, [], (), 1.5, [[1.0]], object()]


def spoiled(rng, value):
    """The argument, made unsound or only unusual."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):  # layers
        layers = [list(layer) for layer in value]
        at = layers[rng.integers(len(layers))]
        part = int(rng.integers(2))
        at[part] = spoiled(rng, at[part])
        return [tuple(layer) for layer in layers]
    if not isinstance(value, np.ndarray):
        return SENSELESS[rng.integers(len(SENSELESS))]
    shape = value.shape
    misaligned = np.zeros(value.nbytes + 1, np.uint8)[1:].view(value.dtype)[: value.size].reshape(shape)
    read_only = value.copy()
    read_only.flags.writeable = False
    one = value.ravel()[0] if value.size else np.zeros((), value.dtype)
    special = value.copy()
    if special.size and special.dtype.kind == "f":
        special.flat[rng.integers(special.size)] = rng.choice([np.nan, np.inf, -np.inf])
    elif special.size and special.dtype.kind == "i":
        special.flat[rng.integers(special.size)] = rng.choice([-1, 10**6, np.iinfo(special.dtype).max])
    changed = [
        lambda: value[:-1],
        lambda: np.concatenate([value, value]),
        lambda: value[::-1],
        lambda: value[..., ::-1],
        lambda: np.asfortranarray(value),
        lambda: np.broadcast_to(one, shape),
        lambda: np.lib.stride_tricks.as_strided(value, shape, tuple(s // 2 for s in value.strides)),
        lambda: value.ravel(),
        lambda: value[None],
        lambda: np.array(one),
        lambda: value[..., :0],
        lambda: value[:0],
        lambda: value.astype(
            rng.choice([np.float32, np.float64, np.int64, np.int32, np.complex64, object, bool])
        ),
        lambda: value.astype(value.dtype.newbyteorder()),
        lambda: value.tolist(),
        lambda: None,
        lambda: misaligned,
        lambda: read_only,
        lambda: special,
    ]
    return changed[rng.integers(len(changed))]()


def flat(value):
    """All arrays in an argument or a result."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, optimizers.State):
        return [value.W, value.b]
    if isinstance(value, list | tuple):
        return [a for part in value for a in flat(part)]
    return [np.array(value)] if isinstance(value, int | float) else []


def call(module, name, args, options):
    """Arrays that the function returns and leaves in a copy of its arguments."""
    args, options = copy.deepcopy((args, options))
    with np.errstate(all="ignore"):
        result = getattr(module, name)(*args, **options)
    if name == "invert_factor":
        del args[0]  # what is left in A is nobody's
    if name == "gram":
        args[4] = np.triu(args[4])  # what is below is nobody's
    if name == "newton":
        result = result[0]  # rounding may turn when it ends
    return [a.astype(float) for a in flat([args, list(options.values()), result]) if a.dtype != object]


def try_one(rng, name, twins=True):
    """One call; raises where something else than an agreement or a refusal comes of it."""
    args, options = random_arguments(rng, name)
    if rng.random() < 0.5:
        ours = call(_kernels, name, args, options)
        if not twins:
            return
        theirs = call(reference, name, args, options)
        for a, b in zip(ours, theirs, strict=True):
            scale = np.abs(b[np.isfinite(b)]).max(initial=1)
            np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3 * scale)
        return
    at = rng.integers(len(args) + len(options))
    if at < len(args):
        args[at] = spoiled(rng, args[at])
    else:
        key = list(options)[at - len(args)]
        options[key] = spoiled(rng, options[key])
    with contextlib.suppress(*REFUSED):
        call(_kernels, name, args, options)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", KERNELS)
def test_random_calls(name):
    for i in range(25):
        try_one(np.random.default_rng([i, KERNELS.index(name)]), name)


if __name__ == "__main__":
    calls, seed = (int(argument) for argument in sys.argv[1:3])
    twins = sys.argv[3:] != ["--no-twins"]
    wrong = 0
    for i in range(calls):
        name = KERNELS[i % len(KERNELS)]
        if i % 50_000 == 0 and i > 0:
            print(f"{i} calls, {wrong} wrong", flush=True)
        try:
            try_one(np.random.default_rng([seed, i]), name, twins)
        except Exception as error:
            wrong += 1
            print(f"call {i}, {name}: {type(error).__name__}: {error}"[:300], flush=True)
            if wrong == 20:
                break
    print(f"{i + 1} calls, {wrong} wrong")
    sys.exit(wrong > 0)
