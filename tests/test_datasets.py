import errno
import gzip
import io
import mmap
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets as sklearn_datasets
from sklearn.model_selection import train_test_split

from softline import SoftmaxClassifier, datasets
from softline._data import arrays
from softline.datasets import DataError, DataWarning

PARTS = ("X_train", "y_train", "X_val", "y_val", "X_test", "y_test")


def assert_same(a, b):
    for part in PARTS:
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
        assert getattr(a, part).dtype == getattr(b, part).dtype


def assert_fails(call, *words):
    """`call` raises DataError, in one line with all the words."""
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def assert_fails_in_little_memory(call, *words):
    tracemalloc.start()
    try:
        assert_fails(call, *words)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


# ---- splits ----------------------------------------------------------------------------------------------


@pytest.mark.wheel
def test_digits_are_split_as_train_test_split_does():
    X, y = sklearn_datasets.load_digits(return_X_y=True)
    data = datasets.load_digits(random_state=3)
    X_rest, X_test, y_rest, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=3)
    X_train, X_val, y_train, y_val = train_test_split(
        X_rest, y_rest, test_size=0.1, stratify=y_rest, random_state=3
    )
    for part, expected in zip(PARTS, (X_train, y_train, X_val, y_val, X_test, y_test), strict=True):
        np.testing.assert_array_equal(getattr(data, part), expected)
    assert data.X_train.dtype == np.float32 and data.y_train.dtype == np.int64
    assert (data.name, data.image_shape, data.class_names) == ("digits", (8, 8), None)
    assert repr(data) == "<Dataset 'digits': 1293 training, 144 validation, 360 test rows of 64 features>"


def test_seed_decides_the_split():
    assert_same(datasets.load_digits(random_state=1), datasets.load_digits(random_state=1))
    one, two = (datasets.load_digits(random_state=seed).X_test for seed in (1, 2))
    assert not np.array_equal(one, two)


def test_parts_are_empty_only_if_asked():
    data = datasets.load_digits(validation_fraction=0, test_fraction=0)
    assert data.X_train.shape == (1797, 64)
    assert data.X_val.shape == data.X_test.shape == (0, 64)
    assert data.y_val.shape == data.y_test.shape == (0,)


@pytest.mark.parametrize("fraction", [-0.1, 1, 2, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        datasets.load_digits(test_fraction=fraction)


def save_labels(path, labels):
    """A .npz file whose single feature is the row's number."""
    np.savez(path, X=np.arange(len(labels))[:, None], y=labels)
    return path


def test_small_file_has_every_class_in_every_part(tmp_path):
    data = datasets.load_file(save_labels(tmp_path / "small.npz", list("abc") * 4))
    for part in (data.y_train, data.y_val, data.y_test):
        assert set(part) == set("abc")
    assert (len(data.y_val), len(data.y_test)) == (3, 3)


def test_each_row_lands_in_one_part_and_single_rows_in_training(tmp_path):
    labels = ["a"] * 40 + ["b"] * 20 + ["rare"]
    data = datasets.load_file(save_labels(tmp_path / "rare.npz", labels))
    rows = np.concatenate([data.X_train, data.X_val, data.X_test])
    assert sorted(rows[:, 0]) == list(range(61))
    for X, y in ((data.X_train, data.y_train), (data.X_val, data.y_val), (data.X_test, data.y_test)):
        assert [labels[int(row)] for row in X[:, 0]] == list(y)
    assert "rare" in data.y_train


def test_two_rows_a_class(tmp_path):
    """The test part leaves single rows behind, of which no validation part can be made."""
    path = save_labels(tmp_path / "pairs.npz", [0, 0, 1, 1])
    assert sorted(datasets.load_file(path, validation_fraction=0).y_test) == [0, 1]
    assert_fails(lambda: datasets.load_file(path), "pairs.npz: 2 rows and no label twice")


# ---- load ------------------------------------------------------------------------------------------------


def test_load_by_name_and_by_path(tmp_path, monkeypatch):
    assert_same(datasets.load("digits", random_state=5), datasets.load_digits(random_state=5))
    path = save_labels(tmp_path / "mine.npz", [0, 1] * 10)
    assert_same(datasets.load(path, random_state=5), datasets.load_file(path, random_state=5))
    monkeypatch.chdir(tmp_path)
    assert datasets.load("mine.npz").name == "mine.npz"


def test_load_hands_the_seed_on(tmp_path):
    labels = np.arange(60) % 3
    write(tmp_path / "mnist", MNIST | {
        "train-images-idx3-ubyte": idx(np.arange(60 * 6).reshape(60, 2, 3) % 251),
        "train-labels-idx1-ubyte": idx(labels),
    })  # fmt: skip
    for seed in (1, 2):
        loaded = datasets.load("mnist", data_dir=tmp_path, random_state=seed)
        assert_same(loaded, datasets.load_mnist(tmp_path, random_state=seed))
    assert not np.array_equal(loaded.X_val, datasets.load("mnist", data_dir=tmp_path).X_val)


@pytest.mark.parametrize("folder", [".", "mnist"])
def test_the_files_that_load_reads(tmp_path, folder):
    write(tmp_path / folder, MNIST | {"notes.txt": b""})
    found = datasets.source_files("mnist", tmp_path)
    assert {path.resolve() for path in found} == {(tmp_path / folder / name).resolve() for name in MNIST}
    assert datasets.source_files(tmp_path / "none.csv") == datasets.source_files("digits") == []
    (tmp_path / "mine.csv").touch()
    assert datasets.source_files(tmp_path / "mine.csv") == [tmp_path / "mine.csv"]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_load_says_where_it_looked(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOFTLINE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=rf"^no .* in data or data.{name}: .*SOFTLINE_DATA.*$"):
        datasets.load(name)
    monkeypatch.setenv("SOFTLINE_DATA", "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf" in elsewhere or elsewhere.{name}"):
        datasets.load(name)
    with pytest.raises(FileNotFoundError, match=rf" in given or given.{name}"):
        datasets.load(name, data_dir="given")


def test_load_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'; .*; did you mean mnist\?$"):
        datasets.load("mnits")
    with pytest.raises(FileNotFoundError, match=r"^no file nowhere\.csv$"):
        datasets.load("nowhere.csv")
    with pytest.raises(ValueError, match="digits is not one"):
        datasets.load("digits", label="target")
    (tmp_path / "data.txt").write_text("1,2\n")
    assert_fails(lambda: datasets.load(tmp_path / "data.txt"), "data.txt", "'.txt'", ".csv, .tsv, .npy, .npz")


# ---- MNIST -----------------------------------------------------------------------------------------------


def idx(values):
    values = np.asarray(values, np.uint8)
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


IMAGES = np.arange(4 * 2 * 3).reshape(4, 2, 3)
MNIST = {
    "train-images-idx3-ubyte": idx(IMAGES),
    "train-labels-idx1-ubyte": idx([5, 0, 4, 1]),
    "t10k-images-idx3-ubyte": idx(IMAGES[:2] + 200),
    "t10k-labels-idx1-ubyte": idx([7, 2]),
}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def load_tiny_mnist(path):
    return datasets.load_mnist(path, validation_fraction=0)


@pytest.mark.parametrize(
    "files",
    [
        MNIST,
        {f"{name}.gz": gzip.compress(content) for name, content in MNIST.items()},
        {name.replace("-idx", ".idx"): content for name, content in MNIST.items()},
    ],
    ids=["plain", "gzip", "dotted"],
)
@pytest.mark.parametrize("folder", [".", "mnist"])
def test_mnist_files(tmp_path, files, folder):
    write(tmp_path / folder, files)
    data = load_tiny_mnist(tmp_path)
    np.testing.assert_array_equal(data.X_train, IMAGES.reshape(4, 6))
    np.testing.assert_array_equal(data.X_test, IMAGES[:2].reshape(2, 6) + 200)
    assert data.y_train.tolist() == [5, 0, 4, 1] and data.y_test.tolist() == [7, 2]
    assert data.X_train.dtype == np.uint8 and data.y_train.dtype == np.int64
    assert data.image_shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-labels-idx1-ubyte", idx([5, 12, 4, 1]), ["labels[1] is 12", "0 to 9"]),
        ("train-labels-idx1-ubyte", idx([5, 0, 4]), ["3 labels", "expected 4"]),
        ("train-labels-idx1-ubyte", idx(IMAGES), ["'00 00 08 03'", "'00 00 08 01'"]),
        ("train-labels-idx1-ubyte", idx([5, 0, 4, 1]) + b"\0", ["more than 4 values", "expected 4"]),
        ("train-images-idx3-ubyte", idx(np.zeros((0, 2, 3))), ["0 values", "(0, 2, 3)"]),
        ("train-images-idx3-ubyte", b"", ["begins with ''"]),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\xff" * 12, ["0 values", f"{(2**32 - 1) ** 3}"]),
        ("t10k-images-idx3-ubyte", idx(np.zeros((2, 3, 3))), ["(3, 3)", "(2, 3)"]),
    ],
)
def test_mnist_damage(tmp_path, name, content, words):
    write(tmp_path, MNIST | {name: content})
    assert_fails(lambda: load_tiny_mnist(tmp_path), str(tmp_path), *words)


@pytest.mark.parametrize("name", MNIST)
def test_mnist_truncated_anywhere(tmp_path, name):
    write(tmp_path, MNIST)
    for length in range(len(MNIST[name])):
        (tmp_path / name).write_bytes(MNIST[name][:length])
        assert_fails(lambda: load_tiny_mnist(tmp_path), name)


def test_mnist_gzip_damaged_anywhere(tmp_path):
    name = "train-images-idx3-ubyte"
    write(tmp_path, MNIST)
    (tmp_path / name).unlink()
    whole = gzip.compress(MNIST[name], mtime=0)
    for length in range(len(whole)):
        (tmp_path / f"{name}.gz").write_bytes(whole[:length])
        assert_fails(lambda: load_tiny_mnist(tmp_path), f"{name}.gz")
    for position in range(10, len(whole)):  # beyond gzip's own header, of which time and system may change
        flipped = bytearray(whole)
        flipped[position] ^= 0x55
        (tmp_path / f"{name}.gz").write_bytes(flipped)
        assert_fails(lambda: load_tiny_mnist(tmp_path), f"{name}.gz")


def test_mnist_gzip_of_blank_images(tmp_path):
    """Deflated a thousandfold, and yet all there."""
    files = MNIST | {
        "train-images-idx3-ubyte": idx(np.zeros((4, 300, 300))),
        "t10k-images-idx3-ubyte": idx(np.zeros((2, 300, 300))),
    }
    write(tmp_path, {f"{name}.gz": gzip.compress(content) for name, content in files.items()})
    assert load_tiny_mnist(tmp_path).X_train.shape == (4, 90000)


def test_mnist_gzip_claims_more_than_it_holds(tmp_path):
    write(tmp_path, MNIST)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    claim = gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(claim)
    assert_fails_in_little_memory(lambda: load_tiny_mnist(tmp_path), "train-images-idx3-ubyte.gz: 0 values")


def test_mnist_itself(mnist_dir):
    data = datasets.load("mnist", data_dir=mnist_dir.parent)
    assert data.X_train.shape == (54000, 784) and data.X_val.shape == (6000, 784)
    assert data.X_test.shape == (10000, 784) and data.image_shape == (28, 28)
    assert data.X_train.dtype == np.uint8 and data.X_train.max() == 255
    assert np.bincount(data.y_train).tolist() == pytest.approx(9 * np.bincount(data.y_val), abs=9)
    del data
    whole = datasets.load_mnist(mnist_dir, validation_fraction=0)
    assert whole.y_train[:5].tolist() == [5, 0, 4, 1, 9] and len(whole.y_train) == 60000


# ---- CIFAR-10 --------------------------------------------------------------------------------------------

BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
PIXELS = np.random.default_rng(0).integers(256, size=(6, 2, 3072), dtype=np.uint8)
LABELS = [[3, 9], [0, 1], [2, 2], [9, 8], [7, 6], [5, 4]]


def python2_pickle(value):
    """Protocol 2 as Python 2 wrote it."""
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2_pickle, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2_pickle(part) for item in value.items() for part in item) + b"u"
    dtype = b"U\x02" + value.dtype.str[1:].encode()
    fortran = b"\x88" if value.flags.f_contiguous else b"\x89"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"".join(map(python2_pickle, value.shape))
        + (b"\x86" if value.ndim == 2 else b"\x87")
        + b"cnumpy\ndtype\n"
        + dtype
        + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + fortran
        + python2_pickle(value.tobytes(order="A"))
        + b"tb"
    )


def python2_dump(value):
    return b"\x80\x02" + python2_pickle(value) + b"."


def batch(i, **changes):
    return {
        b"batch_label": b"a batch",
        b"labels": LABELS[i],
        b"data": PIXELS[i],
        b"filenames": [b"a", b"b"],
    } | {key.encode(): value for key, value in changes.items()}


def write_pickles(folder, dump=python2_dump):
    return write(folder, {name: dump(batch(i)) for i, name in enumerate(BATCHES)})


def write_records(folder):
    return write(
        folder,
        {
            f"{name}.bin": np.c_[np.array(LABELS[i], np.uint8), PIXELS[i]].tobytes()
            for i, name in enumerate(BATCHES)
        },
    )


def load_tiny_cifar10(path):
    return datasets.load_cifar10(path, validation_fraction=0)


def assert_is_tiny_cifar10(data):
    np.testing.assert_array_equal(data.X_train, PIXELS[:5].reshape(10, 3072))
    np.testing.assert_array_equal(data.X_test, PIXELS[5])
    assert data.y_train.tolist() == np.ravel(LABELS[:5]).tolist() and data.y_test.tolist() == LABELS[5]
    assert data.X_train.dtype == np.uint8 and data.y_train.dtype == np.int64
    assert data.image_shape == (3, 32, 32)
    assert data.class_names[0] == "airplane" and data.class_names[9] == "truck"


@pytest.mark.parametrize("above", ["", "cifar10"])
@pytest.mark.parametrize("layout", ["cifar-10-batches-py", "cifar-10-batches-bin"])
def test_cifar10_layouts(tmp_path, layout, above):
    folder = tmp_path / above / layout
    write_pickles(folder) if layout.endswith("py") else write_records(folder)
    assert_is_tiny_cifar10(load_tiny_cifar10(tmp_path))
    assert_is_tiny_cifar10(load_tiny_cifar10(folder))


@pytest.mark.parametrize(
    "dump",
    [
        lambda value: pickle.dumps(value, protocol=2),
        lambda value: pickle.dumps(value, protocol=4),
        lambda value: python2_dump(value | {b"data": np.asfortranarray(value[b"data"])}),
    ],
    ids=["rewritten in protocol 2", "rewritten in protocol 4", "Fortran order"],
)
def test_cifar10_other_pickles(tmp_path, dump):
    assert_is_tiny_cifar10(load_tiny_cifar10(write_pickles(tmp_path, dump)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (batch(0, labels=[3, 10]), ["labels[1] is 10", "0 to 9"]),
        (batch(0, labels=[3, -1]), ["b'labels'", "0 to 9"]),
        (batch(0, labels=[3, 2**30]), ["b'labels'", "0 to 9"]),
        (batch(0, labels=[3, b"9"]), ["b'labels'", "0 to 9"]),
        (batch(0, labels=[3]), ["6144 bytes", "1 labels"]),
        (batch(0, labels=[], data=PIXELS[0][:0]), ["0 labels", "at least 1"]),
        (batch(0, labels=3), ["a list b'labels'"]),
        (batch(0, data=b"pixels"), ["an array b'data'"]),
        (batch(0, data=PIXELS[0].astype(np.int8)), ["expected uint8"]),
        (batch(0, data=PIXELS[0].astype(np.uint16)), ["12288 bytes", "expected uint8"]),
        (batch(0, data=PIXELS[0].reshape(3072, 2)), ["shape (n, 3072)"]),
        (batch(0, data=PIXELS[0].reshape(2, 32, 96)), ["shape (n, 3072)"]),
        ({b"fine_labels": [1], b"data": PIXELS[0]}, ["a list b'labels'"]),
        ([1, 2], ["expected a dictionary"]),
    ],
)
def test_cifar10_pickle_of_something_else(tmp_path, value, words):
    write_pickles(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(python2_dump(value))
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_1", *words)


@pytest.mark.parametrize(
    ("truth", "lie"),
    [
        (struct.pack("<i", 3072) + b"\x86", struct.pack("<i", 9999) + b"\x86"),
        (python2_pickle(PIXELS[0].tobytes()), python2_pickle(PIXELS[0].tobytes()[:-1])),
    ],
    ids=["of columns", "of bytes"],
)
def test_cifar10_pickle_of_an_impossible_array(tmp_path, truth, lie):
    write_pickles(tmp_path)
    whole = (tmp_path / "data_batch_1").read_bytes()
    assert whole.count(truth) == 1
    (tmp_path / "data_batch_1").write_bytes(whole.replace(truth, lie))
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_1", "shape (n, 3072)")


def test_cifar10_pickle_truncated_anywhere(tmp_path):
    write_pickles(tmp_path)
    whole = (tmp_path / "data_batch_1").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "data_batch_1").write_bytes(whole[:length])
        assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_1")


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_pickle_with_bytes_changed(tmp_path, protocol):
    write_pickles(tmp_path)
    whole = pickle.dumps(batch(0), protocol=protocol)
    first_pixel = whole.index(PIXELS[0].tobytes()[:8]) if protocol == 4 else 400
    positions = [*range(first_pixel), *range(len(whole) - 60, len(whole))]
    values = random.Random(0)
    for position in positions:
        for _ in range(4):
            changed = bytearray(whole)
            changed[position] = values.randrange(256)
            (tmp_path / "data_batch_1").write_bytes(changed)
            try:
                load_tiny_cifar10(tmp_path)
            except DataError as err:
                assert "data_batch_1" in str(err) and "\n" not in str(err)


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("place", ["whole", "key", "labels", "data"])
@pytest.mark.parametrize(
    "call",
    [
        lambda path: Call(os.mkdir, path),
        lambda path: Call(os.system, f"mkdir {path}"),
        lambda path: Call(eval, f"__import__('os').mkdir({path!r})"),
        lambda path: Call(np.save, path, np.zeros(1)),
        lambda path: Call(np.ndarray.tofile, np.zeros(1), path),
        lambda path: Call(np.memmap, path, "u1", "w+", 0, (1,)),
    ],
    ids=["mkdir", "system", "eval", "save", "tofile", "memmap"],
)
def test_cifar10_pickle_executes_nothing(tmp_path, call, place, protocol):
    write_pickles(tmp_path)
    call = call(str(tmp_path / "trace"))
    value = {"whole": call, "key": {call: 1}, "labels": batch(0, labels=[call]), "data": batch(0, data=call)}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(value[place], protocol=protocol))
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_1", "refused")
    assert not list(tmp_path.glob("trace*"))


@pytest.mark.parametrize("name", ["numpy\ndtype", "numpy\nndarray", "_codecs\nencode"])
@pytest.mark.parametrize("state", [b"}U\x04argsNs", b"N}U\x07__new__Ns\x86", b"N}X\x07\0\0\0__new__Ns\x86"])
def test_cifar10_pickle_leaves_the_reader_alone(tmp_path, name, state):
    """A state set upon one of the reader's own classes."""
    write_pickles(tmp_path, lambda value: pickle.dumps(value, protocol=2))
    whole = (tmp_path / "data_batch_1").read_bytes()
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_1")
    (tmp_path / "data_batch_1").write_bytes(whole)
    assert_is_tiny_cifar10(load_tiny_cifar10(tmp_path))


@pytest.mark.parametrize(
    "claim",
    [b"r\0\0\0\4", b"T\0\0\0\4", b"\x8e\0\0\0\4\0\0\0\0", b"\x96\0\0\0\4\0\0\0\0"],
    ids=["memo", "string", "bytes", "bytearray"],
)
def test_cifar10_pickle_claims_memory_it_does_not_get(tmp_path, claim):
    write_pickles(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x05N" + claim)
    assert_fails_in_little_memory(lambda: load_tiny_cifar10(tmp_path), "data_batch_1")


def test_cifar10_binary_damage(tmp_path):
    write_records(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_2.bin", "6145 bytes", "3073")
    path.write_bytes(b"")
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_2.bin", "0 bytes", "3073")
    path.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    assert_fails(lambda: load_tiny_cifar10(tmp_path), "data_batch_2.bin", "labels[1] is 10", "0 to 9")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*data_batch_2\.bin"):
        load_tiny_cifar10(tmp_path)


def test_cifar10_itself(cifar10_dir):
    if not (cifar10_dir / "cifar-10-batches-bin").is_dir():
        pytest.skip(f"no cifar-10-batches-bin in {cifar10_dir}")
    data = datasets.load("cifar10", data_dir=cifar10_dir)
    assert data.X_train.shape == (45000, 3072) and data.X_test.shape == (10000, 3072)
    assert np.bincount(data.y_val).tolist() == [500] * 10
    assert data.X_train.dtype == np.uint8 and data.X_train.max() == 255
    channels = data.X_train.reshape(-1, 3, 1024).mean(axis=(0, 2))
    np.testing.assert_allclose(channels, [125.3, 123.0, 113.9], atol=1)
    assert_same(data, datasets.load_cifar10(cifar10_dir / "cifar-10-batches-bin"))


# ---- .csv ------------------------------------------------------------------------------------------------


def read_csv(tmp_path, text, label=-1):
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return datasets.read_features(path, label=label)


@pytest.mark.filterwarnings("ignore:.* left out the first column")
@pytest.mark.parametrize(
    ("text", "label", "X", "y", "names"),
    [
        ("1,2,a\n3,4,b\n", -1, [[1, 2], [3, 4]], ["a", "b"], None),
        ("p,q,r\n1,2,a\n3,4,b\n", -1, [[1, 2], [3, 4]], ["a", "b"], ["p", "q"]),
        ("p,q,r\n1,2,a\n3,4,b\n", "r", [[1, 2], [3, 4]], ["a", "b"], ["p", "q"]),
        ("r,p,q\na,1,2\nb,3,4\n", "r", [[1, 2], [3, 4]], ["a", "b"], ["p", "q"]),
        ("7,1,2\n8,3,4\n", 0, [[1, 2], [3, 4]], [7, 8], None),
        ("1,7,2\n3,8,4\n", "1", [[1, 2], [3, 4]], [7, 8], None),
        ("1,7,2\n3,8,4\n", "-2", [[1, 2], [3, 4]], [7, 8], None),
        ("0,1,label\n1,2,7\n3,4,8\n", -1, [[1, 2], [3, 4]], [7, 8], ["0", "1"]),
        ("0,1,kind\n1,2,a\n3,4,b\n", "kind", [[1, 2], [3, 4]], ["a", "b"], ["0", "1"]),
        ("1,2.0\n3,-4e0\n", -1, [[1], [3]], [2, -4], None),
        ("1,0.5\n3,2\n", -1, [[1], [3]], [0.5, 2], None),
        ("1,1e300\n3,2\n", -1, [[1], [3]], [1e300, 2], None),
        ("1,9007199254740993\n3,9007199254740992\n", -1, [[1], [3]], [2**53 + 1, 2**53], None),
        ("1,99999999999999999999\n3,7\n", -1, [[1], [3]], ["99999999999999999999", "7"], None),
        ("1,10\n3,1_0\n", -1, [[1], [3]], ["10", "1_0"], None),
        ("1_1,1_2\n1,2\n3,4\n", None, [[1, 2], [3, 4]], None, ["1_1", "1_2"]),
        ("1,2\n3,b\n", -1, [[1], [3]], ["2", "b"], None),
        (
            '\ufeffp,"q, r",kind\r\n 1, 2 ,"a ""b"""\r\n\r\n3,4, b\r\n',
            -1,
            [[1, 2], [3, 4]],
            ['a "b"', "b"],
            ["p", "q, r"],
        ),
        ('1,"a\nb",2\n3,c,4\n', 1, [[1, 2], [3, 4]], ["a\nb", "c"], None),
        (
            ',p,"q\nr",k,s\nx,1,2,a,5\ny,3,4,b,6\n',
            "k",
            [[1, 2, 5], [3, 4, 6]],
            ["a", "b"],
            ["p", "q\nr", "s"],
        ),
        ("1,2\n3,4\n", None, [[1, 2], [3, 4]], None, None),
        ("p,q\n1,2\n3,4", None, [[1, 2], [3, 4]], None, ["p", "q"]),
    ],
)
def test_csv(tmp_path, text, label, X, y, names):
    data = read_csv(tmp_path, text, label)
    np.testing.assert_array_equal(data.X, X)
    assert data.X.dtype == np.float64
    assert data.feature_names == names
    assert (data.y if y is None else data.y.tolist()) == y


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        ("", -1, ["empty"]),
        ("\n\n", -1, ["empty"]),
        ("1,2\n1_000,4\n", None, ["line 2", "column 1", "'1_000'", "finite number"]),
        ("p,q\n1,2\n3,x\n", None, ["line 3", "column 'q'", "if the column is the label, name it"]),
        ("p,q\n", -1, ["a header and nothing else"]),
        ("1\n2\n", -1, ["1 column"]),
        ("1 2 3\n1 2 3\n", -1, ["1 column", "commas, vertical bars, tabs, semicolons"]),
        ("p;q;r\n1;2\n", -1, ["line 2 has 2 columns, separated by semicolons", "expected 3"]),
        ("p;q;r\n5,1;3,5;a\n4,9;3,0;b\n", -1, ["line 2, column 'p' holds '5,1'", "decimal=','"]),
        ('"5,1","3,5",a\n"4,9","3,0",b\n', -1, ["line 1, column 1 holds '5,1'", "decimal=','"]),
        ("5,1;a\n4,9;b\n", -1, ["line 1, column 1 holds '5,1'", "decimal=','"]),
        ("1,2,3," * 3_000_000, -1, ["line 1 is longer than 16777216 characters"]),
        ("p,q,r\n1,2,a\n3,4,5,b\n", -1, ["line 3 has 4 columns", "expected 3"]),
        ("1,2,a\n\n3,b\n", -1, ["line 3 has 2 columns", "expected 3"]),
        ("p,q,r\n1,2,a\n3,,b\n", -1, ["line 3, column 'q' holds ''"]),
        ("r,p,q\na,1,2\nb,3,x\n", 0, ["line 3, column 'q' holds 'x'"]),
        ("7,1,2\n8,3,nan\n", 0, ["line 2, column 3 holds 'nan'"]),
        ("1,2,a\n3,1e999,b\n", -1, ["line 2, column 2 holds '1e999'"]),
        ("?,2,a\n3,4,b\n", -1, ["line 1, column 1 holds '?'"]),
        (",,\n3,4,b\n", -1, ["empty label"]),
        ("1,2,a\n3,4,\n", -1, ["line 2", "empty label"]),
        ("1,2\n3,nan\n", -1, ["label nan"]),
        ("p,q,r\n1,2,a\n", "kind", ["no column 'kind'", "p, q, r"]),
        ("p,q,r\n1,2,a\n", 3, ["no column 3", "-3 to 2"]),
        ("p,q,p\n1,2,3\n", "p", ["2 columns 'p'", "position"]),
        ('1,2,a\n3,4,"b\n5,6,a\n', -1, ["commas", "end of data"]),
        ("1,2,a\n\uff13,4,b\n", -1, ["line 2, column 1 holds '\uff13'"]),  # a digit that only Python reads
        ("1,2,a\n" * 3000 + "1,x,a\n", -1, ["line 3001, column 2 holds 'x'"]),
    ],
)
def test_csv_damage(tmp_path, text, label, words):
    assert_fails(lambda: read_csv(tmp_path, text, label), "data.csv", *words)


PUBLISHED = "p,q,kind\n5.1,3,a\n4.9,2,b\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", "])
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PUBLISHED, ["p", "q"]),
        (PUBLISHED.partition("\n")[2], None),
        ("# made by hand; in 2020, or so | \t\n#\n" + PUBLISHED, ["p", "q"]),
        ("# " + PUBLISHED, ["p", "q"]),  # as np.savetxt(header=...) writes it
        (PUBLISHED.replace("4.9", "# the second\n4.9"), ["p", "q"]),
        ("p,q,kind\n5.1,3,a\n# 4.9\n4.9,2,b\n", ["p", "q"]),
        ("0,1,kind\n5.1,3,0\n4.9,2,1\n", ["0", "1"]),
        ("0,1,2\n5.1,3,0\n4.9,2,1\n", ["0", "1"]),
        (",0,1,2\n7,5.1,3,0\n8,4.9,2,1\n", ["0", "1"]),
        (",p,q,kind\n7,5.1,3,0\n3,4.9,2,1\n", ["p", "q"]),
        (",p,q,kind\nrow 1,5.1,3,a\nrow 2,4.9,2,b\n", ["p", "q"]),
        ("Unnamed: 0.1,Unnamed: 0,p,q,kind\n7,7,5.1,3,a\n3,3,4.9,2,b\n", ["p", "q"]),
        ("#,p,q,kind\n1,5.1,3,a\n2,4.9,2,b\n", ["p", "q"]),
    ],
)
@pytest.mark.filterwarnings("ignore::softline.datasets.DataWarning")
def test_csv_as_published(tmp_path, text, names, separator):
    data = read_csv(tmp_path, text.replace(",", separator))
    np.testing.assert_array_equal(data.X, [[5.1, 3], [4.9, 2]])
    assert data.y.tolist() in (["a", "b"], [0, 1])
    assert data.feature_names == names


@pytest.mark.parametrize(
    ("text", "y"),
    [("1,2,a;b\n3,4,c;d\n", ["a;b", "c;d"]), ("1;2;a,b\n3;4;c,d\n", ["a,b", "c,d"])],
)
def test_another_separator_in_the_labels(tmp_path, text, y):
    data = read_csv(tmp_path, text)
    np.testing.assert_array_equal(data.X, [[1, 2], [3, 4]])
    assert data.y.tolist() == y


def test_a_line_without_end_takes_little_memory(tmp_path):
    (tmp_path / "data.csv").write_bytes(b"1," * 50_000_000)
    tracemalloc.start()
    try:
        assert_fails(lambda: datasets.load_file(tmp_path / "data.csv"), "line 1 is longer")
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


def test_csv_of_another_encoding(tmp_path):
    (tmp_path / "data.csv").write_bytes("1,2,é\n".encode("latin-1"))
    assert_fails(lambda: datasets.load_file(tmp_path / "data.csv"), "data.csv", "UTF-8")


def test_csv_of_many_rows(tmp_path):
    values = np.random.default_rng(0).normal(size=(2500, 3))
    labels = np.arange(2500) % 3
    np.savetxt(tmp_path / "data.csv", np.c_[values, labels], delimiter=",", fmt="%.17g")
    X, y, _ = datasets.read_features(tmp_path / "data.csv", label=-1)
    np.testing.assert_array_equal(X, values)
    np.testing.assert_array_equal(y, labels)
    data = datasets.load_file(tmp_path / "data.csv", test_fraction=0.5)
    assert len(data.y_test) == 1250 and data.feature_names is None


def test_load_file_takes_the_last_column_for_labels(tmp_path):
    iris = sklearn_datasets.load_iris(as_frame=True)
    iris.frame.to_csv(tmp_path / "iris.csv", index=False)
    data = datasets.load_file(tmp_path / "iris.csv")
    assert data.name == "iris.csv" and data.feature_names == iris.feature_names
    assert np.bincount(data.y_test).tolist() == [10, 10, 10]
    assert_same(data, datasets.load_file(tmp_path / "iris.csv", label="target"))


# ---- what is no feature, and no label ----------------------------------------------------------------------


@pytest.fixture
def table():
    """Noise of two features, sorted by class."""
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((60, 2)), columns=["a", "b"])
    return frame.assign(y=np.repeat([0, 1, 2], 20))


def test_the_index_that_pandas_writes_is_no_feature(tmp_path, table):
    table.to_csv(tmp_path / "t.csv")
    with pytest.warns(DataWarning, match="left out the first column, which has no name"):
        data = datasets.load_file(tmp_path / "t.csv")
    assert data.feature_names == ["a", "b"]
    table.to_csv(tmp_path / "t.csv", index=False)
    assert_same(data, datasets.load_file(tmp_path / "t.csv"))
    assert data.label_name == "y" and repr(data).endswith("of 2 features, label 'y'>")


@pytest.mark.parametrize("start", [0, 1, 1000])
def test_a_column_that_counts_the_rows_is_no_feature(tmp_path, table, start):
    numbered = table.copy()
    numbered.insert(1, "id", start + np.arange(60))
    numbered.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match="t.csv: left out column 'id': it only counts the rows"):
        data = datasets.load_file(tmp_path / "t.csv")
    assert data.feature_names == ["a", "b"]
    np.testing.assert_array_equal(
        np.sort(data.X_train[:, 0])[-1], table["a"][table["a"].isin(data.X_train[:, 0])].max()
    )
    np.save(tmp_path / "t.npy", numbered)
    numbered.to_csv(tmp_path / "t.csv", index=False, header=False)
    for path in (tmp_path / "t.npy", tmp_path / "t.csv"):
        with pytest.warns(
            DataWarning, match=r"left out column 1 \(counted from 0\): it only counts the rows"
        ):
            again = datasets.load_file(path)
        assert_same(again, data)
        assert again.label_name == "column 3"


def test_few_rows_may_count_by_chance(tmp_path, table, recwarn):
    """Ten rows that count are told of, and twenty different whole numbers: of fewer nothing is said."""
    ids = np.random.default_rng(1).permutation(20)
    for n, column, warned in ((9, np.arange(9), 0), (10, np.arange(10), 1), (19, ids[:19], 0), (20, ids, 1)):
        table[:n].assign(y=np.arange(n) % 2, n=column)[["n", "a", "y"]].to_csv(
            tmp_path / "t.csv", index=False
        )
        data = datasets.load_file(tmp_path / "t.csv")
        assert data.feature_names == (["a"] if n == 10 else ["n", "a"])
        assert len(recwarn) == warned
        recwarn.clear()


def test_an_only_feature_stays(tmp_path):
    pd.DataFrame({"x": np.arange(12), "y": [0, 1] * 6}).to_csv(tmp_path / "t.csv", index=False)
    assert datasets.load_file(tmp_path / "t.csv").feature_names == ["x"]


def test_identifiers_are_told_of(tmp_path, table):
    ids = np.random.default_rng(1).permutation(60) * 7
    table.insert(0, "code", ids)
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match="column 'code' has a different whole number .* sorted by class"):
        assert datasets.load_file(tmp_path / "t.csv").feature_names == ["code", "a", "b"]
    np.savez(tmp_path / "t.npz", X=table[["a", "code"]], y=np.arange(60) % 3)
    with pytest.warns(DataWarning) as caught:
        datasets.load_file(tmp_path / "t.npz")
    (warning,) = caught
    assert "column 1 (counted from 0) has a different" in str(warning.message)
    assert "sorted" not in str(warning.message)


def test_ordinary_tables_are_read_without_a_word(tmp_path, table, recwarn):
    table.assign(count=np.arange(60) // 2).to_csv(tmp_path / "t.csv", index=False)
    datasets.load_file(tmp_path / "t.csv", label="y")
    np.savez(tmp_path / "t.npz", X=np.ones((500, 2)), y=np.arange(500) % 100)
    datasets.load_file(tmp_path / "t.npz", validation_fraction=0)
    datasets.load_digits()
    assert not recwarn


def test_features_without_labels_are_not_trained_on(tmp_path, table):
    np.save(tmp_path / "X.npy", table[["a", "b"]].to_numpy(np.float32))
    table[["y", "a", "b"]].to_csv(tmp_path / "t.csv", index=False)
    for name, last in (("X.npy", "column 1"), ("t.csv", "b")):
        words = (
            f"the last column ({last}) is taken for the label",
            "looks like a measurement",
            "--label COLUMN",
        )
        assert_fails(lambda name=name: datasets.load_file(tmp_path / name), name, *words)
    assert datasets.load_file(tmp_path / "t.csv", label="y").label_name == "y"


@pytest.mark.parametrize("y", [np.repeat(np.arange(30), 2), np.arange(60) % 2 + 0.5])
def test_labels_that_look_like_measurements(tmp_path, y):
    np.savez(tmp_path / "t.npz", X=np.ones((60, 2)), y=y)
    with pytest.warns(
        DataWarning, match=r"the label \(y\) looks like a measurement: \d+ different numbers in 60"
    ):
        datasets.load_file(tmp_path / "t.npz", validation_fraction=0)


def test_rows_to_predict_are_those_the_model_knows(tmp_path, table):
    model = SoftmaxClassifier(tol=None).fit(table[["a", "b"]], table["y"])
    expected = table[["a", "b"]].to_numpy()
    table.assign(id="x")[["id", "a", "y", "b"]].to_csv(tmp_path / "t.csv")
    with pytest.warns(DataWarning, match="not trained on: a column without a name, 'id', 'y'"):
        data = datasets.read_features(tmp_path / "t.csv", model=model)
    np.testing.assert_array_equal(data.X, expected)
    assert data.feature_names == ["a", "b"]
    np.save(tmp_path / "t.npy", np.c_[np.arange(60), expected])
    np.testing.assert_array_equal(datasets.read_features(tmp_path / "t.npy", model=model).X, expected)
    assert datasets.read_features(tmp_path / "t.npy").X.shape == (60, 3)


# ---- .npy, .npz ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        *((stored, stored) for stored in ("float32", "float64", "float16", "uint8", "int8", "bool")),
        *((stored, np.float32) for stored in ("uint16", "int16", ">f4")),
    ]
    + [(stored, np.float64) for stored in ("int32", "int64", "uint32", "longdouble", ">f8")],
)
def test_npz_types(tmp_path, stored, loaded):
    X = np.arange(20).reshape(10, 2).astype(stored)
    np.savez(tmp_path / "data.npz", X=X, y=[0, 1] * 5)
    data = datasets.load_file(tmp_path / "data.npz", validation_fraction=0, test_fraction=0)
    assert data.X_train.dtype == loaded
    np.testing.assert_array_equal(data.X_train, X)
    np.testing.assert_array_equal(datasets.read_features(tmp_path / "data.npz").X, data.X_train)


def test_npz_of_parts(tmp_path):
    path = tmp_path / "data.npz"
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    parts = dict(X_train=X, y_train=y, X_test=X[:3] + 100, y_test=y[:3])
    np.savez(path, **parts, note=np.array([{}], object))
    data = datasets.load_file(path)
    np.testing.assert_array_equal(data.X_test, X[:3] + 100)
    assert len(data.y_train) == 18 and sorted(data.y_val) == [0, 1]
    np.savez(path, **parts, X_val=X[:1] + 200, y_val=y[:1])
    data = datasets.load_file(path)
    np.testing.assert_array_equal(data.X_train, X)
    np.testing.assert_array_equal(data.X_val, X[:1] + 200)


X4 = np.ones((4, 2))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, ["no array 'X'"]),
        ({"a": X4}, ["no array 'X'"]),
        ({"X": X4}, ["no array 'y'"]),
        ({"X_train": X4, "y_train": np.arange(4)}, ["no array 'X_test'"]),
        ({"X": X4, "y": np.arange(3)}, ["y of shape (3,)", "expected (4,)"]),
        ({"X": X4, "y": np.ones((4, 1))}, ["y of shape (4, 1)"]),
        ({"X": np.ones(4), "y": np.arange(4)}, ["X of shape (4,)", "matrix"]),
        ({"X": np.ones((0, 2)), "y": np.ones(0)}, ["X of shape (0, 2)"]),
        ({"X": X4.astype(str), "y": np.arange(4)}, ["<U", "numbers"]),
        ({"X": X4.astype(complex), "y": np.arange(4)}, ["complex"]),
        ({"X": X4.astype(object), "y": np.arange(4)}, ["plain arrays"]),
        ({"X": X4, "y": X4[:, 0].astype(complex)}, ["labels of type complex"]),
        ({"X": np.array([[1, 2], [3, np.nan]]), "y": np.arange(2)}, ["X[1, 1] is nan"]),
        ({"X": X4, "y": np.array([0, 1, np.inf, 0])}, ["label inf in row 2"]),
        (
            {"X_train": X4, "y_train": np.arange(4), "X_test": np.ones((4, 3)), "y_test": np.arange(4)},
            ["[2, 3] features"],
        ),
        (
            {"X_train": X4, "y_train": [0, 1, 0, 1], "X_test": X4, "y_test": [0, 1, 7, 8]},
            ["y_test has the label 7", "y_train"],
        ),
        (
            {"X_train": X4, "y_train": [0, 1] * 2, "X_test": X4, "y_test": [0, 1] * 2}
            | {"X_val": X4, "y_val": ["a", "b"] * 2},
            ["y_val has the label a", "y_train"],
        ),
    ],
)
def test_npz_damage(tmp_path, arrays, words):
    np.savez(tmp_path / "data.npz", **arrays)
    assert_fails(lambda: datasets.load_file(tmp_path / "data.npz"), "data.npz", *words)


def test_the_place_of_a_number_that_is_not_finite(tmp_path, monkeypatch):
    """In whatever block of rows it is."""
    monkeypatch.setattr(arrays, "CELLS_AT_ONCE", 4)
    for row in range(8):
        X = np.ones((8, 2))
        X[row, 1] = np.inf
        np.savez(tmp_path / "data.npz", X=X, y=np.arange(8))
        assert_fails(lambda: datasets.load_file(tmp_path / "data.npz"), f"X[{row}, 1] is inf")


def test_npy(tmp_path):
    matrix = np.array([[1, 5, 2], [3, 6, 4]] * 5, np.uint8)
    np.save(tmp_path / "data.npy", matrix)
    X, y, names = datasets.read_features(tmp_path / "data.npy", label=1)
    np.testing.assert_array_equal(X, matrix[:, [0, 2]])
    np.testing.assert_array_equal(y, matrix[:, 1])
    assert X.dtype == np.uint8 and y.dtype == np.int64 and names is None
    np.testing.assert_array_equal(datasets.read_features(tmp_path / "data.npy").X, matrix)
    assert set(datasets.load_file(tmp_path / "data.npy").y_train) == {2, 4}


@pytest.mark.parametrize(
    ("matrix", "label", "words"),
    [
        (np.ones(4), -1, ["shape (4,)"]),
        (np.ones((4, 1)), -1, ["1 column"]),
        (np.ones((4, 2)), 2, ["no column 2", "-2 to 1"]),
        (np.ones((4, 2)), "kind", ["no column 'kind'", "no names"]),
        (np.array([[1, 2, 3], [4, np.inf, 6]]), 0, ["[1, 1] is inf"]),
        (np.array([[{}]], object), -1, ["objects"]),
    ],
)
def test_npy_damage(tmp_path, matrix, label, words):
    np.save(tmp_path / "data.npy", matrix)
    assert_fails(lambda: datasets.load_file(tmp_path / "data.npy", label=label), "data.npy", *words)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_numpy_files_truncated_anywhere(tmp_path, ending):
    path = tmp_path / f"data.{ending}"
    if ending == "npy":
        np.save(path, np.array([[1.0, 0], [2, 1]] * 4))
    else:
        np.savez_compressed(path, X=np.arange(8.0)[:, None], y=[0, 1] * 4)
    assert len(datasets.load_file(path).y_test) == 2
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert_fails(lambda: datasets.load_file(path), path.name)


def test_npy_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.ones((4, 2)))
    path.write_bytes(path.read_bytes().replace(b"(4, 2), }        ", b"(4000000, 2), }  "))
    assert_fails_in_little_memory(lambda: datasets.load_file(path), "data.npy")


def test_npy_is_mapped_not_copied(tmp_path):
    np.save(tmp_path / "data.npy", np.ones((40, 3), np.float32))
    for label in (None, -1, 0):
        X = datasets.read_features(tmp_path / "data.npy", label=label).X
        while isinstance(X, np.ndarray):
            X = X.base
        assert isinstance(X, mmap.mmap)


@pytest.mark.parametrize(
    ("ending", "opened", "error"),
    [
        ("npy", "numpy.lib.format.open_memmap", OSError(errno.ENOMEM, "Cannot allocate memory")),
        ("npz", "numpy.load", MemoryError("Unable to allocate 8 GiB")),
    ],
)
def test_too_little_memory_is_no_damage(tmp_path, monkeypatch, ending, opened, error):
    (tmp_path / f"data.{ending}").touch()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(opened, fail)
    with pytest.raises(type(error), match="allocate"):
        datasets.read_features(tmp_path / f"data.{ending}")


@pytest.mark.parametrize("name", ["X", "X.npy"])
def test_npz_of_something_else_than_arrays(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr(name, "1,2,3")
    assert_fails(
        lambda: datasets.read_features(tmp_path / "data.npz"), "data.npz: X is not in NumPy's format"
    )


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_forged_headers_of_numpy_files(tmp_path, ending):
    """Whatever stands there, it loads or is refused."""
    rng, path, whole = random.Random(0), tmp_path / f"data.{ending}", io.BytesIO()
    np.save(whole, np.c_[np.arange(40.0).reshape(20, 2), np.arange(20) % 2])
    for i in range(1000):
        header = list(whole.getvalue()[:128].decode("latin-1"))
        for position in rng.choices(range(10, 128), k=rng.randint(1, 4)):
            header[position] = rng.choice("{}[]()'\",:<>|-0123456789fUOTru")
        forged = "".join(header).encode("latin-1") + whole.getvalue()[128:]
        if i == 0:
            forged = whole.getvalue().replace(b"False", b"F(,se")
        if ending == "npy":
            path.write_bytes(forged)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("X.npy", forged)
        try:
            datasets.read_features(path)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert i > 0


def test_npy_that_is_something_else(tmp_path):
    path = tmp_path / "data.npy"
    np.savez(path.with_suffix(".npz"), X=X4)
    path.with_suffix(".npz").rename(path)
    assert_fails(lambda: datasets.load_file(path), "data.npy", "magic")


def test_labels_that_int64_does_not_hold(tmp_path):
    labels = 2**63 + np.arange(10, dtype=np.uint64) % 2
    path = save_labels(tmp_path / "data.npz", labels)
    assert set(datasets.load_file(path).y_train) == set(labels)
    # Nor do floats hold all whole numbers from 2**53 on: from there, they stay what they are.
    for largest, dtype in ((2**53 - 1, np.int64), (2**53, np.float64)):
        path = save_labels(tmp_path / "data.npz", np.array([1.0, largest] * 5))
        data = datasets.load_file(path)
        assert data.y_train.dtype == dtype and set(data.y_train) == {1, largest}


def test_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a folder without \.csv, "):
        datasets.load(tmp_path)


def test_npz_takes_no_label(tmp_path):
    path = save_labels(tmp_path / "data.npz", [0, 1] * 5)
    for read in (datasets.load_file, datasets.read_features):
        with pytest.raises(ValueError, match=r"of a \.npz file are an array"):
            read(path, label="y")


def test_importing_datasets_leaves_scikit_learn_alone():
    """It takes a second, which `softline --help` need not wait for."""
    command = "import sys, softline.datasets; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


# ---- two features ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [datasets.make_red_pandas, datasets.make_spiral])
def test_toys_are_reproducible(make):
    X, y = make(101, random_state=0)
    assert X.shape == (101, 2)
    assert np.ptp(np.bincount(y)) <= 1
    assert not np.array_equal(y, np.sort(y))  # shuffled
    assert not np.array_equal(make(101, random_state=1)[1], y)
    for same in (make(101, random_state=0), make(101, random_state=np.random.RandomState(0))):
        np.testing.assert_array_equal(same[0], X)
        np.testing.assert_array_equal(same[1], y)
    assert not np.array_equal(make(101, random_state=1)[0], X)


@pytest.mark.parametrize("name, wrong", [("n_samples", 0), ("n_classes", 0), ("noise", -0.1)])
def test_toys_that_cannot_be_made(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be at least [01]; got {wrong}"):
        datasets.make_spiral(**{name: wrong})


def test_red_pandas_are_brown():
    X, y = datasets.make_red_pandas(2000, random_state=0)
    assert X.min() >= 0
    assert X.sum(axis=1).max() <= 1  # of a picture
    dog, panda = X[y == 0].mean(axis=0), X[y == 1].mean(axis=0)
    np.testing.assert_allclose(dog, [3 / 16, 6 / 16], atol=0.02)
    np.testing.assert_allclose(panda, [12 / 22, 3 / 22], atol=0.02)


def test_a_spiral_without_noise():
    X, y = datasets.make_spiral(400, n_classes=4, noise=0, random_state=0)
    radius = np.hypot(*X.T)
    assert radius.max() <= 1
    angle = np.arctan2(*X.T) - 4 * radius - np.pi / 2 * y
    np.testing.assert_allclose(np.cos(angle), 1)


# ---- other tables, shards and pipes ------------------------------------------------------------------------


@pytest.fixture
def iris():
    frame = sklearn_datasets.load_iris(as_frame=True).frame.set_axis([*"abcd", "y"], axis=1)
    return frame.assign(y=np.array(["s", "v", "w"])[frame.y])


def without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)


@pytest.mark.parametrize("name", ["t.tsv", "t.csv.gz", "t.tsv.gz", "t.parquet", "T.CSV"])
def test_the_same_table_in_other_files(tmp_path, iris, name):
    iris.to_csv(tmp_path / "t.csv", index=False)
    expected = datasets.load_file(tmp_path / "t.csv")
    if name.endswith("parquet"):
        iris.to_parquet(tmp_path / name)
    else:
        iris.to_csv(tmp_path / name, index=False, sep="\t" if "tsv" in name else ",")
    data = datasets.load_file(tmp_path / name)
    assert_same(data, expected)
    assert data.feature_names == list("abcd") and data.label_name == "y"


def test_a_csv_is_the_same_with_and_without_pyarrow(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3)) * 10.0 ** rng.integers(-300, 300, (200, 3))
    frame = pd.DataFrame(X).assign(y=np.array(["a", ' b "c"', "d,e"])[np.arange(200) % 3])
    text = "# a comment\n" + frame.to_csv(index=False) + "# another\n"
    with_pyarrow = read_csv(tmp_path, text)
    without_pyarrow(monkeypatch)
    np.testing.assert_array_equal(read_csv(tmp_path, text).X, with_pyarrow.X)
    np.testing.assert_array_equal(with_pyarrow.X, X)
    assert read_csv(tmp_path, text).y.tolist() == with_pyarrow.y.tolist()


def test_plain_files_are_read_by_pyarrow(tmp_path, monkeypatch):
    """And not line by line, which takes ten times as long."""
    monkeypatch.setattr(np, "loadtxt", lambda *_, **__: pytest.fail("read by NumPy"))
    for text in (
        "p,q,r\n1,2,a\n3,4,b\n",
        "#c\n1;2;a\n# x\n3;4;b\n",
        '1,2,"a, b"\n3,4,c\n',
        "1, 2 ,a\n\n3,4,b\n",
    ):
        np.testing.assert_array_equal(read_csv(tmp_path, text).X, [[1, 2], [3, 4]])


def test_parquet_needs_pyarrow(tmp_path, iris, monkeypatch):
    iris.to_parquet(tmp_path / "t.parquet")
    without_pyarrow(monkeypatch)
    with pytest.raises(ImportError, match=r't\.parquet needs|needs pyarrow: pip install "softline\[arrow\]"'):
        datasets.load_file(tmp_path / "t.parquet")


def test_parquet_types(tmp_path):
    y = np.arange(20) % 2
    frame = pd.DataFrame({"f": np.arange(20, dtype="f4") / 7, "b": y == 1, "y": y}, index=y + 5)
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.warns(DataWarning, match="left out the index of a data frame"):
        data = datasets.load_file(tmp_path / "t.parquet")
    assert data.X_train.dtype == np.float32 and data.feature_names == ["f", "b"]
    frame.assign(f=[*frame.f[:-1], None]).to_parquet(tmp_path / "t.parquet", index=False)
    assert_fails(
        lambda: datasets.load_file(tmp_path / "t.parquet"), "row 19", "column 'f' holds 'nan'", "--missing"
    )
    data = datasets.load_file(tmp_path / "t.parquet", missing="mean")
    assert np.isfinite(data.X_train).all()


def test_parquet_columns_of_lists(tmp_path):
    X = np.random.default_rng(0).standard_normal((30, 4)).astype("f4")
    frame = pd.DataFrame({"id": "x", "emb": list(X), "y": np.arange(30) % 3})
    frame.to_parquet(tmp_path / "t.parquet")
    data = datasets.load_file(tmp_path / "t.parquet", drop=["id"], test_fraction=0, validation_fraction=0)
    np.testing.assert_array_equal(data.X_train, X)
    assert data.feature_names == [f"emb_{i}" for i in range(4)]
    model = SoftmaxClassifier(max_iter=3, tol=None).fit(data.X_train, data.y_train)
    model.preparation_ = data.preparation
    np.testing.assert_array_equal(datasets.read_features(tmp_path / "t.parquet", model=model).X, X)
    frame["emb"] = [row[: 3 + i % 2] for i, row in enumerate(X)]
    frame.to_parquet(tmp_path / "t.parquet")
    assert_fails(lambda: datasets.load_file(tmp_path / "t.parquet", drop=["id"]), "column 'emb'")


def test_parquet_damage(tmp_path, iris):
    path = tmp_path / "t.parquet"
    iris.assign(e="x", day=pd.Timestamp("2020-01-01")).to_parquet(path)
    bad = "column 'e' holds 'x'; row 0 (counted from 0), column 'day' holds '2020-01-01"
    assert_fails(lambda: datasets.load_file(path, label="y"), bad)
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert_fails(lambda: datasets.load_file(path), "t.parquet: expected a complete .parquet file")


def test_damaged_gzip(tmp_path, iris, monkeypatch):
    path = tmp_path / "t.csv.gz"
    whole = gzip.compress(iris.to_csv(index=False).encode())
    for length in (0, 1, 9, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert_fails(lambda: datasets.load_file(path), "t.csv.gz")


@pytest.mark.parametrize("ending", ["csv", "npy", "npz", "parquet"])
def test_shards(tmp_path, iris, ending):
    """Rows of the files of a folder follow each other."""
    folder, numbers = tmp_path / "shards", iris.assign(y=np.arange(150) % 3)
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for i, part in enumerate((numbers[:60], numbers[60:61], numbers[61:])):
        X, y = part[list("abcd")].to_numpy(), part.y.to_numpy()
        path = folder / f"{i}.{ending}"
        {
            "csv": lambda part=part, path=path: part.to_csv(path, index=False),
            "parquet": lambda part=part, path=path: part.to_parquet(path),
            "npy": lambda X=X, y=y, path=path: np.save(path, np.column_stack([X, y])),
            "npz": lambda X=X, y=y, path=path: np.savez(path, X=X, y=y),
        }[ending]()
    data = datasets.load_file(folder, test_fraction=0, validation_fraction=0)
    np.testing.assert_array_equal(data.X_train, iris[list("abcd")])
    np.testing.assert_array_equal(data.y_train, np.arange(150) % 3)
    assert data.name == "shards" and folder / f"1.{ending}" in datasets.source_files(folder)
    (folder / f"3.{'npy' if ending == 'csv' else 'csv'}").touch()
    assert_fails(lambda: datasets.load_file(folder), "shards of several kinds")


def test_shards_of_other_columns(tmp_path, iris):
    iris.to_csv(tmp_path / "a.csv", index=False)
    iris.rename(columns={"b": "B"}).to_csv(tmp_path / "b.csv", index=False)
    assert_fails(lambda: datasets.load_file(tmp_path), "b.csv: other columns than", "a.csv")


def test_labels_in_a_file_of_their_own(tmp_path):
    X, y = np.random.default_rng(0).standard_normal((30, 2, 2)), np.array(["a", "b", "c"] * 10)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    options = {"test_fraction": 0, "validation_fraction": 0}
    with pytest.warns(DataWarning, match="matrix of 2 x 2 a row is taken as 4 features a row"):
        data = datasets.load_file(tmp_path / "X.npy", labels=tmp_path / "y.npy", **options)
    np.testing.assert_array_equal(data.X_train, X.reshape(30, 4))
    assert data.y_train.tolist() == y.tolist() and data.image_shape == (2, 2)
    np.save(tmp_path / "y.npy", y[:29])
    with pytest.warns(DataWarning):
        assert_fails(
            lambda: datasets.load_file(tmp_path / "X.npy", labels=tmp_path / "y.npy"),
            "y of shape (29,)",
            "(30,)",
        )
    with pytest.warns(DataWarning):
        assert_fails(lambda: datasets.load_file(tmp_path / "X.npy"), "rows of shape (2, 2)", "--labels")
    with pytest.raises(ValueError, match="exclude each other"):
        datasets.load_file(tmp_path / "X.npy", labels=tmp_path / "y.npy", label=0)


def test_missing_numbers_are_means_of_the_training_rows(tmp_path):
    X, y = np.random.default_rng(0).standard_normal((100, 3)), np.arange(100) % 2
    X[::7, 1] = np.nan
    np.savez(tmp_path / "t.npz", X=X, y=y)
    assert_fails(lambda: datasets.load_file(tmp_path / "t.npz"), "X[0, 1] is nan", "--missing mean")
    data = datasets.load_file(tmp_path / "t.npz", missing="mean")
    means = np.array(data.preparation.means)
    filled = np.vstack([X for X, _ in data.parts.values()])
    assert (filled[:, 1] == means[1]).sum() == np.isnan(X[:, 1]).sum()
    assert np.isin(data.X_train, X).sum() + (data.X_train[:, 1] == means[1]).sum() == data.X_train.size
    known = data.X_train[data.X_train[:, 1] != means[1]]
    np.testing.assert_allclose(known[:, 1].mean(), means[1])
    dropped = datasets.load_file(tmp_path / "t.npz", missing="drop", test_fraction=0, validation_fraction=0)
    np.testing.assert_array_equal(dropped.X_train, X[np.isfinite(X[:, 1])])
    with pytest.raises(ValueError, match="missing must be 'error', 'drop' or 'mean'; got 'median'"):
        datasets.load_file(tmp_path / "t.npz", missing="median")


@pytest.mark.parametrize("pyarrow", [True, False])
def test_cells_that_lack_a_number(tmp_path, monkeypatch, pyarrow):
    if not pyarrow:
        without_pyarrow(monkeypatch)
    cells = ["", "?", "NA", "nan", "null", " NaN "] + ["1.5"] * 6
    (tmp_path / "t.csv").write_text(
        "p,q,y\n" + "".join(f"{i / 3},{cell},{i % 2}\n" for i, cell in enumerate(cells))
    )
    data = datasets.load_file(tmp_path / "t.csv", missing="drop", test_fraction=0, validation_fraction=0)
    np.testing.assert_array_equal(data.X_train[:, 1], 6 * [1.5])
    (tmp_path / "t.csv").write_text("p,q,y\n1,,0\n2,inf,1\n3,x,0\n")
    assert_fails(
        lambda: datasets.load_file(tmp_path / "t.csv", missing="mean"), "line 3, column 'q' holds 'inf'"
    )


def test_categories_are_those_of_one_hot_encoder(tmp_path):
    from sklearn.preprocessing import OneHotEncoder

    text = np.array([["b", "x"], ["a", ""], ["c", "x"], ["a", "y"]] * 5, object)
    frame = pd.DataFrame(text, columns=["p", "q"]).assign(r=np.arange(20) / 3, y=np.arange(20) % 2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = {"test_fraction": 0, "validation_fraction": 0}
    data = datasets.load_file(tmp_path / "t.csv", categorical=["q", "p"], **options)
    expected = OneHotEncoder(sparse_output=False).fit(text)
    np.testing.assert_array_equal(data.X_train, np.c_[frame.r, expected.transform(text)])
    assert data.feature_names == ["r", *expected.get_feature_names_out(["p", "q"])]
    with pytest.raises(DataError, match="two of the roles"):
        datasets.load_file(tmp_path / "t.csv", categorical=["p"], drop=["p"])
    with pytest.raises(DataError, match=r"no column 'P'; .*; did you mean p"):
        datasets.load_file(tmp_path / "t.csv", categorical=["P"])


def test_too_many_categories(tmp_path):
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(1200)], "x": 1.5, "y": np.arange(1200) % 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    call = lambda: datasets.load_file(tmp_path / "t.csv", categorical=["name"])  # noqa: E731
    assert_fails(call, "'name' has 1200 different values in 1200 rows", "--drop")


def test_a_pipe_leaves_nothing_behind(tmp_path, iris, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for kind in ("csv", "npz", "parquet", "csv.gz"):
        stream = io.BytesIO()
        if kind == "npz":
            np.savez(stream, X=iris[list("abcd")], y=np.arange(150) % 3)
        elif kind == "parquet":
            iris.to_parquet(stream)
        else:
            text = iris.to_csv(index=False).encode()
            stream.write(gzip.compress(text) if kind == "csv.gz" else text)
        stream.seek(0)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        data = datasets.load_file("-")
        assert data.name == "standard input" and data.X_train.shape == (108, 4)
        assert os.listdir(tmp_path) == []


def test_options_of_files_are_not_for_data_sets():
    with pytest.raises(ValueError, match=r"drop=.'a'. is for files, and digits is not one"):
        datasets.load("digits", drop=["a"])
    assert datasets.load("digits", dtype="float64").X_val.dtype == np.float64


def test_a_damaged_cell_among_numbers_is_no_category(tmp_path):
    (tmp_path / "t.csv").write_text("p,q,y\n" + "1,2,0\n" * 30 + "1,x,1\n")
    message = "t.csv: line 32, column 'q' holds 'x'; expected a finite number"
    with pytest.raises(DataError) as caught:
        datasets.load_file(tmp_path / "t.csv")
    assert str(caught.value).endswith(message)
    (tmp_path / "t.csv").write_text("p,q,y\n" + "1,a,0\n" * 30 + "1,b,1\n")
    assert_fails(lambda: datasets.load_file(tmp_path / "t.csv"), "; --categorical q would read it")
