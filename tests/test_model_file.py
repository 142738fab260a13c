import json
import os
import pickle
import random
import stat

import numpy as np
import pytest
import safetensors.numpy
import sklearn
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from softline import (
    SoftmaxClassifier,
    datasets,
    linear_model,
    load_model,
    model_file,
    optimizers,
    save_model,
    schedules,
)
from softline.linear_model import LeastSquaresClassifier
from softline.model_file import ModelFileError
from softline.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

sklearn_version = tuple(map(int, sklearn.__version__.split(".")[:2]))
rng = np.random.default_rng(0)
X = rng.standard_normal((60, 5))
CODES = rng.integers(0, 3, 60)
TEXTS = np.array(["a", "été", "\ud800 lone"])


def trained(labels=CODES, dtype=np.float64, **params):
    return SoftmaxClassifier(random_state=0, max_iter=3, **params).fit(X.astype(dtype), labels)


def round_trip(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors")
    return load_model(tmp_path / "model.safetensors")


def assert_same(loaded, model):
    for name in ("coef_", "intercept_", "classes_"):
        a, b = getattr(loaded, name), getattr(model, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    assert loaded.predict(X).dtype == model.predict(X).dtype
    assert np.array_equal(loaded.predict(X), model.predict(X))
    for name in ("loss_curve_", "validation_scores_", "n_iter_", "learning_rate_", "n_features_in_"):
        assert getattr(loaded, name) == getattr(model, name)


# ---- round trips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "labels",
    [
        *(np.array([-100, 0, 7]).astype(t)[CODES] for t in ("i1", "i2", "i4", "i8", ">i4", "f2", "f4", "f8")),
        *(np.array([0, 7, 200]).astype(t)[CODES] for t in ("u1", "u2", "u4", "u8")),
        np.array([0, 1, 2**64 - 1], np.uint64)[CODES],
        CODES == 1,
        TEXTS[CODES],
        TEXTS.astype("U40")[CODES],
        TEXTS.astype(object)[CODES],
        np.array(["1", "2", "10"])[CODES],
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_round_trip_to_the_bit(tmp_path, labels, dtype):
    model = trained(labels, dtype)
    assert_same(round_trip(model, tmp_path), model)


@pytest.mark.parametrize("labels", [CODES, CODES == 1, TEXTS[CODES]], ids=["codes", "two classes", "text"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "model",
    [
        LeastSquaresClassifier(alpha=2.0, class_weight="balanced"),
        linear_model.LogisticRegression(C=np.inf),
        linear_model.LogisticRegression(l1_ratio=0.5, solver="saga"),
        SoftmaxClassifier(solver="lbfgs"),
        SoftmaxClassifier(solver="random_search", random_state=0),
    ],
    ids=str,
)
def test_other_models_round_trip_to_the_bit(tmp_path, model, dtype, labels):
    if "l1_ratio" in str(model) and sklearn_version < (1, 8):
        model.set_params(penalty="elasticnet")
    model = clone(model).fit(X.astype(dtype), labels)
    loaded = round_trip(model, tmp_path)
    assert type(loaded) is type(model)
    assert loaded.get_params() == model.get_params()
    assert loaded.decision_function(X).tobytes() == model.decision_function(X).tobytes()
    assert np.array_equal(loaded.predict(X), model.predict(X))
    if hasattr(model, "n_iter_"):
        assert np.array_equal(loaded.n_iter_, model.n_iter_)


def test_networks_by_lbfgs_round_trip(tmp_path):
    model = MLPClassifier((4,), solver="lbfgs", max_iter=3, random_state=0).fit(X, CODES)
    loaded = round_trip(model, tmp_path)
    assert (loaded.n_iter_, loaded.loss_curve_) == (3, model.loss_curve_)
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_looks_at_a_test_set_come_back(tmp_path):
    model = trained()
    assert not hasattr(round_trip(model, tmp_path), "test_looks_")
    datasets.sealed(X, CODES).score(model)
    loaded = round_trip(model, tmp_path)
    assert loaded.test_looks_ == model.test_looks_
    with pytest.warns(datasets.TestSetWarning, match="look number 2"):
        datasets.sealed(X.copy(), CODES).score(loaded)
    assert len(round_trip(loaded, tmp_path).test_looks_) == 2
    datasets.sealed(X[:50], CODES[:50]).score(loaded)  # another test set


def test_the_seed_of_the_split_is_kept(tmp_path):
    save_model(trained(), tmp_path / "m", split_seed=7)
    assert model_file.read_model(tmp_path / "m")[1]["split_seed"] == 7


def test_attributes_of_early_stopping_and_data_frames(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "ç", "d e", ""])
    model = SoftmaxClassifier(early_stopping=True, validation_fraction=0.2, random_state=0, max_iter=4)
    model.fit(frame, TEXTS[CODES])
    loaded = round_trip(model, tmp_path)
    assert len(loaded.validation_scores_) == loaded.n_iter_
    assert np.array_equal(loaded.feature_names_in_, model.feature_names_in_)
    assert loaded.feature_names_in_.dtype == model.feature_names_in_.dtype
    assert np.array_equal(loaded.predict(frame), model.predict(frame))


@pytest.mark.parametrize(
    "lay_out",
    [
        np.asfortranarray,
        lambda W: np.repeat(W, 2, axis=1)[:, ::2],
        lambda W: np.pad(W, ((0, 0), (0, 3)))[:, :5],
        lambda W: W.astype(">f8"),
    ],
    ids=["Fortran order", "strided", "padded rows", "big endian"],
)
def test_any_memory_layout_is_stored_right(tmp_path, lay_out):
    model = trained()
    W = model.coef_.copy()
    model.coef_ = lay_out(W)
    loaded = round_trip(model, tmp_path)
    assert loaded.coef_.tobytes() == W.tobytes()


@pytest.mark.parametrize(
    "params",
    [
        {"class_weight": {0: 1, 1: 2.5, 2: 3}},
        {"class_weight": "balanced", "batch_size": None, "tol": None, "learning_rate": 0.1},
        {"schedule": schedules.Step(every=3, factor=0.25)},
        {"optimizer": "adam", "l1_ratio": 0.5, "label_smoothing": 0.1, "clip_norm": 1.0, "max_norm": 2.0},
        *({"optimizer": optimizer} for optimizer in optimizers.BY_NAME.values()),
        {"optimizer": optimizers.Adam(beta1=0.8, beta2=0.99, eps=1e-6)},
        {"schedule": schedules.WarmUp(2, then=schedules.Cosine(floor=0.1))},
        {"alpha": np.float32(0.1), "batch_size": np.int64(7), "n_threads": 1, "fit_intercept": False},
    ],
)
def test_parameters_come_back(tmp_path, params):
    model = trained(**params)
    loaded = round_trip(model, tmp_path)
    assert loaded.get_params() == model.get_params()
    assert_same(loaded, model)


@pytest.mark.parametrize("labels", [TEXTS[CODES], CODES == 1], ids=["text", "bool"])
def test_class_weights_of_labels_that_are_no_numbers(tmp_path, labels):
    model = trained(labels, class_weight={label: 2 for label in np.unique(labels).tolist()})
    assert round_trip(model, tmp_path).class_weight == model.class_weight


def test_a_random_state_that_is_an_object_is_forgotten(tmp_path):
    model = trained().set_params(random_state=np.random.RandomState(3))
    assert round_trip(model, tmp_path).random_state is None


@pytest.mark.wheel
def test_training_goes_on_after_loading(tmp_path):
    model = trained(learning_rate=0.1)
    loaded = round_trip(model, tmp_path)
    assert_same(loaded.partial_fit(X, CODES), model.partial_fit(X, CODES))
    trained_on = round_trip(trained(), tmp_path).set_params(warm_start=True).fit(X, CODES)
    assert trained_on.loss_curve_[0] < trained().loss_curve_[0]


@pytest.mark.wheel
def test_the_same_model_is_the_same_file(tmp_path):
    for name in "ab":
        save_model(trained(), tmp_path / name, image_shape=(1, 5))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_header_tells_what_is_in_the_file(tmp_path):
    save_model(trained(), tmp_path / "m", image_shape=(1, 5))
    model, header = model_file.read_model(tmp_path / "m")
    assert isinstance(model, SoftmaxClassifier)
    assert header["image_shape"] == [1, 5]
    assert header["version"].count(".") == 2


# ---- refusing to save ------------------------------------------------------------------------------------


class Opaque:
    pass


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: m.set_params(schedule=lambda epoch, n: 1), TypeError, "cannot hold schedule=<function"),
        (lambda m: m.set_params(schedule=schedules.WarmUp(1, abs)), TypeError, "cannot hold schedule=<built"),
        (lambda m: m.set_params(alpha=-1), ValueError, "'alpha' parameter"),
        (lambda m: setattr(m, "classes_", np.array([1, Opaque(), 2], object)), TypeError, "got object"),
        (lambda m: setattr(m, "classes_", np.array([1, 2, 3], "M8[D]")), TypeError, "got datetime64"),
        (lambda m: setattr(m, "classes_", np.arange(2)), ValueError, r"classes \(2,\)"),
        (lambda m: m.coef_.fill(np.nan), ValueError, "a weight is infinite or NaN"),
    ],
)
def test_what_would_not_load_is_not_written(tmp_path, change, error, message):
    path = tmp_path / "model.safetensors"
    save_model(trained(), path)
    before = path.read_bytes()
    model = trained()
    change(model)
    with pytest.raises(error, match=message):
        save_model(model, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_other_estimators_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"of softline; got sklearn\..*\.LogisticRegression"):
        save_model(LogisticRegression().fit(X, CODES), tmp_path / "m")
    with pytest.raises(NotFittedError):
        save_model(SoftmaxClassifier(), tmp_path / "m")
    with pytest.raises(ValueError, match="images"):
        save_model(trained(), tmp_path / "m", image_shape=(2, 2))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_model(tmp_path, monkeypatch, step, failure):
    path = tmp_path / "model.safetensors"
    old = trained()
    save_model(old, path)

    def fail(*_):
        raise failure

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(failure)):
        save_model(trained(alpha=1.0), path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same(load_model(path), old)


def test_where_a_model_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none"):
        save_model(trained(), tmp_path / "none" / "m")
    with pytest.raises(FileExistsError, match="is not a file"):
        save_model(trained(), tmp_path)


def test_links_and_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "folder").mkdir()
    link, target = tmp_path / "link", tmp_path / "folder" / "m"
    link.symlink_to(target)
    (tmp_path / "ordinary").touch()
    save_model(trained(), link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


# ---- refusing to load ------------------------------------------------------------------------------------


def assert_refused(path, match):
    with pytest.raises(ModelFileError, match=match) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_truncated_anywhere(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(trained(), path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert_refused(path, "not a complete safetensors file")
    path.write_bytes(whole + b"\0")
    assert_refused(path, "not a complete safetensors file")


def test_one_changed_bit_anywhere(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(trained(TEXTS[CODES]), path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert_refused(path, "not a complete|not a model|damaged|in format")


def forge(path, change, model=None):
    """Save a model, let `change` edit its header and tensors, and make the checksum right again."""
    save_model(model or trained(TEXTS[CODES]), path)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["softline"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del tensors["sha256"]
    change(header, tensors)
    text = json.dumps(header)
    tensors["sha256"] = model_file._checksum(text, tensors)
    safetensors.numpy.save_file(tensors, path, {"softline": text})


def test_how_a_table_was_prepared_is_kept(tmp_path):
    model = trained()
    assert not hasattr(round_trip(model, tmp_path), "preparation_")
    for preparation in (
        datasets.Preparation(),
        datasets.Preparation(
            "y", ("id",), ("p",), (("a", ""),), ("q", "r"), 5, "mean", (0.5,) * 5, "float32"
        ),
        datasets.Preparation(-1, (3, 4), n_columns=9, missing="drop", has_test_file=True),
    ):
        model.preparation_ = preparation
        assert round_trip(model, tmp_path).preparation_ == preparation


def test_a_forged_file_that_is_right_loads(tmp_path):
    """Or else the refusals below would prove nothing."""
    forge(tmp_path / "m", lambda header, tensors: None)
    assert_same(load_model(tmp_path / "m"), trained(TEXTS[CODES]))


FORGERIES = {
    "coef of 1 axis": lambda h, t: t.update(coef=np.zeros(15)),
    "coef too narrow": lambda h, t: t.update(coef=np.zeros((3, 4))),
    "coef of too few rows": lambda h, t: t.update(coef=np.zeros((2, 5))),
    "coef of integers": lambda h, t: t.update(coef=np.zeros((3, 5), int)),
    "coef infinite": lambda h, t: t.update(coef=np.full((3, 5), np.inf)),
    "no coef": lambda h, t: t.pop("coef"),
    "intercept of another type": lambda h, t: t.update(intercept=np.zeros(3, np.float32)),
    "intercept too short": lambda h, t: t.update(intercept=np.zeros(2)),
    "intercept NaN": lambda h, t: t.update(intercept=np.full(3, np.nan)),
    "one class": lambda h, t: (
        t.update(coef=np.zeros((1, 5)), intercept=np.zeros(1)),
        h.update(classes=["a"]),
    ),
    "classes twice": lambda h, t: h.update(classes=["a", "a", "b"]),
    "classes not in order": lambda h, t: h.update(classes=["b", "a", "c"]),
    "classes of objects": lambda h, t: h.update(classes=["a", "b", ["c"]]),
    "classes too few": lambda h, t: h.update(classes=["a", "b"]),
    "classes too long": lambda h, t: h.update(classes_dtype="<U999999999"),
    "classes of no type": lambda h, t: h.update(classes_dtype=","),
    "classes of records": lambda h, t: h.update(classes_dtype="i4,O"),
    "classes of another type": lambda h, t: (h.update(classes=None), t.update(classes=np.arange(3))),
    "classes nowhere": lambda h, t: h.update(classes=None),
    "wrong number of features": lambda h, t: h.update(n_features=4),
    "too few feature names": lambda h, t: h.update(feature_names=["a"]),
    "feature names no strings": lambda h, t: h.update(feature_names=[1, 2, 3, 4, 5]),
    "image too large": lambda h, t: h.update(image_shape=[28, 28]),
    "image of text": lambda h, t: h.update(image_shape=["5"]),
    "unknown estimator": lambda h, t: h.update(estimator="os.system"),
    "unknown parameter": lambda h, t: h["params"].update(callback="os.system"),
    "parameter out of range": lambda h, t: h["params"].update(batch_size=-3),
    "unknown schedule": lambda h, t: h["params"].update(schedule={"schedule": "system", "arguments": {}}),
    "unknown optimizer": lambda h, t: h["params"].update(optimizer={"optimizer": "system", "arguments": {}}),
    "optimizer of wrong arguments": lambda h, t: h["params"].update(
        optimizer={"optimizer": "Momentum", "arguments": {"momentum": 2}}
    ),
    "schedule of wrong arguments": lambda h, t: h["params"].update(
        schedule={"schedule": "Step", "arguments": {"command": "ls"}}
    ),
    "parameters no dict": lambda h, t: h.update(params=[]),
    "losses no list": lambda h, t: h.update(loss_curve=3),
    "epochs no number": lambda h, t: h.update(n_iter="many"),
    "rate no number": lambda h, t: h.update(learning_rate="fast"),
    "a key missing": lambda h, t: h.pop("n_iter"),
    "the rows of another estimator": lambda h, t: (
        h.update(estimator="LeastSquaresClassifier", params={}, n_iter=1)
        or t.update(coef=np.zeros((2, 5)), intercept=np.zeros(2))
    ),
    "looks no list": lambda h, t: h.update(test_looks=3),
    "a look of other fields": lambda h, t: h.update(test_looks=[{"date": "today"}]),
    "a look of other types": lambda h, t: h.update(
        test_looks=[{"date": "today", "test_set": "a", "model": "b", "score": "high"}]
    ),
    "a seed of text": lambda h, t: h.update(split_seed="7"),
    "preparation no dict": lambda h, t: h.update(preparation=3),
    "preparation of other fields": lambda h, t: h.update(preparation={"command": "ls"}),
    "a column of another type": lambda h, t: h.update(preparation={"left_out": [1.5]}),
    "a column without categories": lambda h, t: h.update(preparation={"categorical": ["a"]}),
    "categories no strings": lambda h, t: h.update(
        preparation={"categorical": ["a"], "categories": [[1, 2]]}
    ),
    "too few means": lambda h, t: h.update(preparation={"means": [0.5]}),
    "a mean infinite": lambda h, t: h.update(preparation={"means": [1e999] * 5}),
    "a type of features that is none": lambda h, t: h.update(preparation={"dtype": "O"}),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_file_is_refused(tmp_path, change):
    forge(tmp_path / "m", change)
    assert_refused(tmp_path / "m", "no softline model")


def test_layers_that_do_not_fit_are_refused(tmp_path):
    model = MLPClassifier((4, 4), max_iter=2, random_state=0).fit(X, CODES)
    for change, match in (
        ({"coef_1": np.zeros((5, 4))}, "layer 1 of shape .* after one of 4 units"),
        ({"coef_1": np.zeros((4, 5))}, r"layer 1 of shape .*, but intercept \(4,\)"),
        ({"coef_1": np.zeros((4, 4), np.float32)}, "layer 1 is float32 and float64, not float64"),
        ({"coef_2": np.zeros((4, 4)), "intercept_2": np.zeros(4)}, "4 outputs, but classes"),
    ):
        forge(tmp_path / "m", lambda header, tensors, change=change: tensors.update(change), model)
        assert_refused(tmp_path / "m", match)


def test_the_same_bytes_as_other_arrays_are_refused(tmp_path):
    """The checksum is of shapes and types, too."""
    save_model(trained(), tmp_path / "m")
    with safe_open(tmp_path / "m", framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for change in (lambda coef: coef.reshape(5, 3), lambda coef: coef.view(np.int64)):
        changed = tensors | {"coef": np.ascontiguousarray(change(tensors["coef"]))}
        safetensors.numpy.save_file(changed, tmp_path / "m", metadata)
        assert_refused(tmp_path / "m", "the checksum does not match")


def test_forged_headers(tmp_path):
    """Whatever stands there, the file loads or is refused in one line."""
    path, rng = tmp_path / "m", random.Random(0)
    save_model(trained(TEXTS[CODES]), path)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    with safe_open(path, framework="numpy") as file:
        text = file.metadata()["softline"]
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != "sha256"}  # noqa: SIM118
    for i in range(1000):
        mutated = list(text if i % 2 else whole[8:end].decode())
        for position in rng.choices(range(len(mutated)), k=rng.randint(1, 4)):
            mutated[position] = rng.choice(["", *'{}[]",:-<>|0123456789eEfNUOlt(),;\\ '])
        forged = "".join(mutated)
        if i % 2:
            checksum = model_file._checksum(forged, tensors)
            safetensors.numpy.save_file(tensors | {"sha256": checksum}, path, {"softline": forged})
        else:
            path.write_bytes(len(forged).to_bytes(8, "little") + forged.encode() + whole[end:])
        try:
            load_model(path)
        except ModelFileError as error:
            assert "\n" not in str(error)


def test_a_later_format_asks_for_a_later_softline(tmp_path):
    forge(tmp_path / "m", lambda header, tensors: header.update(format=2))
    assert_refused(tmp_path / "m", "in format 2; softline .* reads format 1")


@pytest.mark.parametrize("header", ["", "[]", "{}", "3", "[" * 100_000])
def test_a_header_that_is_none(tmp_path, header):
    safetensors.numpy.save_file({"sha256": np.zeros(32, np.uint8)}, tmp_path / "m", {"softline": header})
    assert_refused(tmp_path / "m", "damaged: the header cannot be read")


def test_files_of_other_programs(tmp_path):
    path = tmp_path / "m"
    safetensors.numpy.save_file({"coef": np.zeros((2, 2))}, path)
    assert_refused(path, "but not a model that softline saved")
    safetensors.numpy.save_file({"coef": np.zeros((2, 2))}, path, {"format": "pt"})
    assert_refused(path, "but not a model that softline saved")
    for contents in (b"", b"label\n1\n", pickle.dumps(trained())):
        path.write_bytes(contents)
        assert_refused(path, "not a complete safetensors file")


def test_tensor_types_that_numpy_lacks(tmp_path):
    header = json.dumps({"coef": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "m").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    assert_refused(tmp_path / "m", "not a complete safetensors file|not a model")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    save_model(trained(), tmp_path / "m")
    (tmp_path / "m").chmod(0)
    with pytest.raises(PermissionError):
        load_model(tmp_path / "m")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        load_model(tmp_path / "none")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_model(tmp_path)
