"""Damaged files: every reader refuses them by name, at once and in little memory, or returns what is really there.

The damage is random, from a seed: flipped bytes, truncations, splices, zeroed ranges, swapped ranges and members, random
headers, other words in a text. Some of it does no harm, as a changed date in a zip file. So each reader comes with the
values it may return: where the file has a digest or a checksum those of the whole file, else what the bytes now say.

In the suite each reader gets a few dozen of them. With -m soak each gets 2,500.
"""

import contextlib
import copy
import gzip
import hashlib
import io
import itertools
import json
import os
import re
import signal
import tarfile
import time
import tracemalloc
import warnings
import zipfile
import zlib

import mnist as example
import numpy as np
import pytest
from helpers import bits, forge, idx, rows
from PIL import Image
from scipy.io import loadmat, savemat
from soak import Record, times

import tinygan.run
from tinygan import (
    GAN,
    BatchNorm,
    Linear,
    MomentumSGD,
    Network,
    Noise,
    ReLU,
    Reshape,
    Sigmoid,
    Trainer,
    load_checkpoint,
    load_generator,
)
from tinygan.__main__ import main
from tinygan.datasets import cifar10, load_cifar10, load_images, load_mnist, load_tfd, read_idx
from tinygan.datasets import mnist as loader
from tinygan.errors import CheckpointError, DataError, TinyganError
from tinygan.parzen import ParzenWarning, evaluate
from tinygan.run import COLUMNS

FEW, MANY = 12, 2500
SECONDS = 20  # an input that takes longer hangs
BYTES = 8_000_000  # of Python and NumPy; the files have a few kB

# ---- Damage to bytes


def flipped(rng, good, other):
    data = bytearray(good)
    for i in rng.integers(0, len(data), rng.integers(1, 9)):
        data[i] ^= int(rng.integers(1, 256))
    return bytes(data)


def truncated(rng, good, other):
    return good[: rng.integers(0, len(good))]


def spliced(rng, good, other):
    """The beginning of one file and the end of a second, or of the same from a different place on."""
    i = rng.integers(1, len(good))
    if rng.random() < 0.5:
        return good[:i] + good[rng.integers(0, len(good)) :]
    return good[:i] + other[min(i, len(other) - 1) :]


def zeroed(rng, good, other):
    i, n = rng.integers(0, len(good)), rng.integers(1, 513)
    return good[:i] + bytes(len(good[i : i + n])) + good[i + n :]


def swapped(rng, good, other):
    """Two ranges in each other's place."""
    a, b, c, d = sorted(rng.integers(0, len(good), 4))
    return good[:a] + good[c:d] + good[b:c] + good[a:b] + good[d:]


def with_a_random_header(rng, good, other):
    n = rng.integers(1, 65)
    return rng.bytes(n) + good[n:]


def with_more_bytes(rng, good, other):
    i = rng.integers(0, len(good) + 1)
    return good[:i] + rng.bytes(rng.integers(1, 65)) + good[i:]


BYTE_DAMAGE = [flipped, truncated, spliced, zeroed, swapped, with_a_random_header, with_more_bytes]

# ---- Damage to words and numbers

WORDS = [b"null", b"true", b"[]", b"{}", b'""', b'"\\ud800"', b"NaN", b"-Infinity", b"nan", b"inf", b"1e999", b"-1", b"0"]
WORDS += [b"0.5", b"3", b"1" * 400, b"9" * 5000, b"-0", b"abc", b"\xff\xfe", b"\x00", b"," * 50, b"[" * 5000, b'"', b"1e-400"]
TOKEN = re.compile(rb'"[^"]*"|[-+.\w]+|[\[\]{}:,]')


def with_another_word(rng, good, other):
    for _ in range(rng.integers(1, 4)):
        found = list(TOKEN.finditer(good))
        if found:
            token = found[rng.integers(len(found))]
            good = good[: token.start()] + WORDS[rng.integers(len(WORDS))] + good[token.end() :]
    return good


def with_a_line_more_or_less(rng, good, other):
    lines = good.splitlines(keepends=True)
    i, j = rng.integers(0, len(lines), 2)
    return b"".join(lines[:i] + (lines[j : j + 1] if rng.random() < 0.5 else []) + lines[i + (rng.random() < 0.5) :])


TEXT_DAMAGE = [*BYTE_DAMAGE, with_another_word, with_another_word, with_another_word, with_a_line_more_or_less]

# ---- Damage to the members of an archive, in a sound zip file


def members_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}


def rezipped(data, members):
    """The same archive with other bytes for some of its members. The digest stays as it was, the CRC-32 of each is right."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (members_of(data) | members).items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def with_members_swapped(rng, good, other):
    members = members_of(good)
    a, b = rng.choice(list(members), 2, replace=False)
    return rezipped(good, {a: members[b], b: members[a]})


def with_a_member_damaged(rng, good, other):
    members, others = members_of(good), members_of(other)
    name = str(rng.choice(list(members)))
    damage = TEXT_DAMAGE if name == "text" else BYTE_DAMAGE
    return rezipped(good, {name: damage[rng.integers(len(damage))](rng, members[name], others[name])})


def with_a_member_of_the_other(rng, good, other):
    name = str(rng.choice(list(members_of(good))))
    return rezipped(good, {name: members_of(other)[name]})


def with_another_npy_header(rng, good, other):
    members = members_of(good)
    name = str(rng.choice(list(members)))
    return rezipped(good, {name: a_header(rng) + members[name][128:]})


def a_header(rng):
    """Of an .npy file: it can be read, and says anything."""
    shape = tuple(int(n) for n in rng.choice([0, 1, 2, 5, 60, 100, 10**6, 10**9, 10**12, 2**62, 2**80, -1], rng.integers(0, 4)))
    descr = str(rng.choice(["<f4", "<f8", "|u1", ">f4", "<i8", "|O", "<c8", "|S3", "<f2", "|V8", "<M8[s]", "nonsense", ""]))
    text = repr({"descr": descr, "fortran_order": bool(rng.integers(2)), "shape": shape}).encode()
    version = int(rng.choice([1, 1, 1, 2, 3, 9]))
    return b"\x93NUMPY" + bytes([version, 0]) + (118).to_bytes(2, "little") + text.ljust(117) + b"\n"


ZIP_DAMAGE = [*BYTE_DAMAGE, with_members_swapped, with_a_member_damaged, with_a_member_of_the_other, with_another_npy_header]


def npy_with_another_header(rng, good, other):
    return a_header(rng) + good[128:]


def idx_with_another_header(rng, good, other):
    shape = [int(n) for n in rng.choice([0, 1, 3, 4, 5, 12, 60, 2**16, 2**31, 2**32 - 1], rng.integers(0, 5))]
    header = bytes([0, 0, rng.integers(7, 16), len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return header + good[16:]


def gzip_of_damaged_bytes(rng, good, other):
    damage = [*BYTE_DAMAGE, idx_with_another_header][rng.integers(len(BYTE_DAMAGE) + 1)]
    return gzip.compress(damage(rng, gzip.decompress(good), gzip.decompress(other)), 1)


# ---- The readers
#
# Each is a function of a folder that returns: the damages; good and other, two whole files as bytes; write(data); read(data),
# which returns whether the reader took it, raises its named error, and fails where a value is wrong.


def game(seed):
    G = Network([Linear(3, 6), BatchNorm(6), ReLU(), Linear(6, 4), Reshape((2, 2)), Reshape((4,)), Sigmoid()], seed=seed)
    D = Network([Linear(4, 5), ReLU(), Linear(5, 1)], seed=seed + 1)
    return GAN(G, D, *(MomentumSGD(net.theta, 0.1) for net in (G, D)), noise=Noise("uniform", 3), batch_size=10)


def saved_run(folder, seed):
    """A checkpoint of format 2 as bytes."""
    images = np.random.default_rng(seed).integers(0, 256, (40, 4), dtype=np.uint8)
    trainer = Trainer(game(seed), images, images, seed=seed)
    trainer.train_epoch()
    trainer.save(folder / "saved.npz", {"variant": "alternating", "a word": "η"})
    data = (folder / "saved.npz").read_bytes()
    (folder / "saved.npz").unlink()
    return data


def saved_in_format_1(folder, seed):
    rng = np.random.default_rng(seed)
    names = {"theta_g": 44, "theta_d": 5, "v_g": 44, "v_d": 5}
    fields = {
        "format": 1,
        "epoch": 2,
        "updates": {"G": 20 + seed, "D": 40},
        "architecture": {
            "G": "Network([Linear(3, 5), ReLU(), Linear(5, 4), Sigmoid()])",
            "D": "Network([Linear(4, 1)])",
        },
        "metrics": [{"epoch": 1, "value": -1.25}, {"epoch": 2, "value": -1.125}],
        "configuration": {"variant": "simultaneous", "prior": "uniform", "noise": 3},
    }
    forge(folder / "saved.npz", {name: rng.random(n).astype(np.float32) for name, n in names.items()}, fields)
    data = (folder / "saved.npz").read_bytes()
    (folder / "saved.npz").unlink()
    return data


def what_a_checkpoint_says(path):
    found = load_checkpoint(path)
    fields = {name: getattr(found, name) for name in ("epoch", "updates", "architecture", "metrics", "configuration")}
    return list(found.vectors), bits(found.vectors), json.dumps(fields)


def what_a_generator_is(path):
    generator = load_generator(path)
    return repr(generator.network), generator.noise, bits([generator.network.theta, generator.network.statistics])


def archive(save, load):
    def reader(folder):
        good, other = save(folder, 1), save(folder, 2)
        path, wholes = folder / "checkpoint.npz", []
        for data in good, other:
            path.write_bytes(data)
            wholes.append(load(path))

        def read():
            assert load(path) in wholes, "it took a checkpoint that differs from the one that was written"

        return ZIP_DAMAGE, good, other, path, read, CheckpointError

    return reader


def forged(folder):
    """The digest is right, whatever the text says: so it may be loaded, if all of it can be used."""
    good, other = saved_run(folder, 1), saved_run(folder, 2)
    path, vectors = folder / "checkpoint.npz", {}
    with np.load(io.BytesIO(good)) as arrays:
        vectors = {name: arrays[name] for name in arrays if name not in ("text", "digest")}
        text, second = arrays["text"].tobytes(), np.load(io.BytesIO(other))["text"].tobytes()

    def with_a_right_digest(rng, *_):
        forge(path, vectors, TEXT_DAMAGE[rng.integers(len(TEXT_DAMAGE))](rng, text, second))
        return path.read_bytes()

    def read():
        load_checkpoint(path)
        load_generator(path).sample(2)

    return [with_a_right_digest], good, other, path, read, CheckpointError


def plain_idx(folder):
    good, other = (idx(np.random.default_rng(i).integers(0, 256, (5, 4, 3 + i), dtype=np.uint8)) for i in (0, 1))
    path = folder / "some-images"

    def read():
        array = read_idx(path)
        assert idx(array) == path.read_bytes(), "it read another array than the one that these bytes state"

    return [*BYTE_DAMAGE, idx_with_another_header], good, other, path, read, DataError


def gzipped_idx(folder):
    _, *plain, path, _, _ = plain_idx(folder)
    good, other = (gzip.compress(data, mtime=0) for data in plain)

    def read():
        said = idx(read_idx(path))
        if said not in plain:  # then only if gzip, whose checksum it is, says the same
            assert said == unzipped(path.read_bytes()), "it read what fails gzip's checksum"

    return [*BYTE_DAMAGE, gzip_of_damaged_bytes], good, other, path, read, DataError


def unzipped(data):
    """By zlib, member by member; what is checked is gzip's CRC-32, of each."""
    content = b""
    while data.strip(b"\0"):
        member = zlib.decompressobj(31)
        content += member.decompress(data)
        assert member.eof
        data = member.unused_data
    return content


def mnist_folder(ending):
    def reader(folder):
        rng, names = np.random.default_rng(0), list(loader.FILES)
        sizes = [(12, 4, 5), (12,), (3, 4, 5), (3,)]
        arrays = {n: rng.integers(0, 10, size, dtype=np.uint8) for n, size in zip(names, sizes, strict=True)}
        pack = gzip.compress if ending else bytes
        files = {name: (folder / (name + ending), pack(idx(array))) for name, array in arrays.items()}
        known = {name: (*loader.FILES[name][:2], zlib.crc32(idx(array))) for name, array in arrays.items()}

        def stated(name):
            data = files[name][0].read_bytes()
            return unzipped(data) if ending else data

        turn = iter(range(10**9))

        def one_of_the_four(rng, *_):
            for path, data in files.values():
                path.write_bytes(data)
            name = names[next(turn) % 4]
            path, data = files[name]
            other = files[names[(next(turn) // 2) % 4]][1]
            damages = [*BYTE_DAMAGE, gzip_of_damaged_bytes if ending else idx_with_another_header]
            path.write_bytes(damages[rng.integers(len(damages))](rng, data, other))

        def read():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loader, "FILES", known)
                found = load_mnist(folder)
            halves = (found.train, found.validation), (found.test,)
            parts = [np.concatenate([getattr(s, kind) for s in half]) for half in halves for kind in ("images", "labels")]
            right = [array.astype(part.dtype).tobytes() for part, array in zip(parts, arrays.values(), strict=True)]
            whole = found.image_shape == (4, 5) and [part.tobytes() for part in parts] == right
            assert (found.name == "mnist") == whole, f"it is called {found.name}"
            for name, part in zip(names, parts, strict=True):
                assert stated(name).endswith(part.astype(np.uint8).tobytes()), "it read other numbers than the file states"

        return [one_of_the_four], b"", b"", folder, read, DataError

    return reader


def cifar10_files(folder):
    """The files have no checksum. So it reads what the bytes now say, or refuses them."""
    rng, path = np.random.default_rng(0), folder / "data_batch_1.bin"
    good, other = (b"".join(bytes([i % 10]) + rng.bytes(3072) for i in range(n)) for n in (6, 7))
    (folder / "test_batch.bin").write_bytes(other)

    def read():
        found = load_cifar10(folder)
        stated = path.read_bytes()
        labels = np.concatenate([found.train.labels, found.validation.labels])
        images = np.concatenate([found.train.images, found.validation.images]).reshape(-1, 1024, 3).transpose(0, 2, 1)
        said = b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True))
        assert said == stated, "it read other records than the file states"

    return BYTE_DAMAGE, good, other, path, read, DataError


def tfd_file(compressed):
    """Only what is compressed has a checksum. So it reads what the bytes now say, as scipy reads them, or refuses them."""

    def reader(folder):
        def whole(seed):
            rng, file = np.random.default_rng(seed), io.BytesIO()
            folds = np.zeros((12, 5), np.uint8)
            folds[4:] = np.arange(8)[:, None] % 3 + 1
            arrays = {"images": rng.integers(0, 256, (12, 48, 48), dtype=np.uint8), "folds": folds}
            savemat(file, arrays | {"labs_ex": np.ones((12, 1), np.int16)}, do_compression=compressed)
            return file.getvalue()

        def damaged_inside(rng, good, _):
            """An element with damage near its start, and the right sizes and checksum around it."""
            size = int.from_bytes(good[132:136], "little")
            inside = good[136 : 136 + size]
            inside = zlib.decompress(inside) if compressed else inside
            start = BYTE_DAMAGE[rng.integers(len(BYTE_DAMAGE))](rng, inside[:64], inside[:64])
            inside = zlib.compress(start + inside[64:], 1) if compressed else start + inside[64:]
            return good[:132] + len(inside).to_bytes(4, "little") + inside + good[136 + size :]

        path = folder / "faces.mat"

        def read():
            found = load_tfd(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stated = loadmat(path)
            flat, folds = stated["images"].reshape(-1, 2304), stated["folds"]
            assert np.array_equal(found.train.images, flat[(folds == 0).all(axis=1)]), "it read other images"
            for i, (validation, test) in enumerate(found.folds):
                for split, number in (validation, 2), (test, 3):
                    assert np.array_equal(split.images, flat[folds[:, i] == number]), "it read other images"
                    assert np.array_equal(split.labels, stated["labs_ex"].ravel()[folds[:, i] == number])

        return [*BYTE_DAMAGE, damaged_inside, damaged_inside, damaged_inside], whole(0), whole(1), path, read, DataError

    return reader


def cifar10_archive(checksum):
    """As mnist_folder: with the right checksum nothing else may be taken; with any checksum, six whole files or none."""

    def reader(folder):
        def whole(seed):
            rng, file = np.random.default_rng(seed), io.BytesIO()
            with tarfile.open(fileobj=file, mode="w:gz") as tar:
                for name in [*cifar10.TRAIN, cifar10.TEST]:
                    member = tarfile.TarInfo(cifar10.INSIDE + name)
                    member.size = 3073
                    tar.addfile(member, io.BytesIO(b"\1" + rng.bytes(3072)))
            return file.getvalue()

        def gzip_of_a_damaged_tar(rng, good, other):
            return gzip.compress(
                BYTE_DAMAGE[rng.integers(len(BYTE_DAMAGE))](rng, gzip.decompress(good), gzip.decompress(other)), 1
            )

        good, other, path = whole(1), whole(2), folder / cifar10.ARCHIVE

        def read():
            md5 = hashlib.md5(good if checksum else path.read_bytes()).hexdigest()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cifar10, "MD5", md5), patch.setattr(cifar10, "RECORDS", 1)
                found = load_cifar10(folder)
            if checksum:
                assert path.read_bytes() == good, "it took a file whose checksum is wrong"
            assert [len(split) for split in (found.train, found.validation, found.test)] == [4, 1, 1]

        return [*BYTE_DAMAGE, gzip_of_a_damaged_tar], good, other, path, read, DataError

    return reader


def parzen_files(file_format):
    def reader(folder):
        def whole(seed):
            images = np.random.default_rng(seed).integers(0, 256, (60, 3, 4), dtype=np.uint8)
            if file_format == "idx":
                return idx(images)
            file = io.BytesIO()
            np.save(file, (images / 255).astype(np.float32))
            return file.getvalue()

        path, data = folder / "samples", folder / "data.npy"
        np.save(data, np.random.default_rng(5).random((30, 3, 4), dtype=np.float32))
        x = np.load(data).reshape(30, 12)

        def read():
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(["parzen", str(path), "--validation", str(data), "--test", str(data)])
            if code:
                assert code == 2
                assert err.getvalue().startswith("error: ")
                raise DataError(err.getvalue())
            stated = np.load(path, allow_pickle=False) if file_format == "npy" else read_idx(path) / np.float32(255)
            rows = stated.reshape(len(stated), -1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ParzenWarning)
                expected = evaluate(rows.astype(np.float64 if rows.itemsize >= 8 else np.float32), x, x)
            if not (file_format == "npy" and stated.dtype == np.uint8):
                assert f"{expected}\n" == out.getvalue(), "it scored other numbers than the file states"

        header = npy_with_another_header if file_format == "npy" else idx_with_another_header
        return [*BYTE_DAMAGE, header, header], whole(0), whole(1), path, read, TinyganError

    return reader


def picture_files(file_format):
    """A folder of ten pictures, one of them damaged. A PNG's checksums make it the whole picture or none; a JPEG has none."""

    def reader(folder):
        def whole(seed):
            x = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(x).save(file, file_format)
            return x, file.getvalue()

        (folder / "cache").mkdir()
        pictures = folder / "pictures"
        pictures.mkdir()
        wholes = [whole(seed) for seed in range(10)]
        for i, (_, data) in enumerate(wholes):
            (pictures / f"{i}.{file_format.lower()}").write_bytes(data)
        path = pictures / f"3.{file_format.lower()}"

        def read():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
                patch.setattr(os, "fsync", lambda *_: None)
                dataset = load_images(pictures)
            found = {bytes(row) for part in (dataset.train, dataset.validation, dataset.test) for row in part.images}
            if file_format == "PNG":
                assert found <= {x.tobytes() for x, _ in wholes}, "it read a picture that is in no file"
            assert len(found) >= 9

        return BYTE_DAMAGE, wholes[3][1], wholes[4][1], path, read, DataError

    return reader


def npy_of_images(folder):
    def whole(seed):
        file = io.BytesIO()
        np.save(file, np.random.default_rng(seed).integers(0, 256, (30, 6, 5), dtype=np.uint8))
        return file.getvalue()

    path = folder / "images.npy"

    def read():
        dataset, stated = load_images(path), np.load(path, allow_pickle=False)
        rows = np.concatenate([part.images for part in (dataset.train, dataset.validation, dataset.test)])
        if stated.dtype == np.uint8 and stated.max() > 1:
            assert sorted(map(bytes, rows)) == sorted(map(bytes, stated.reshape(len(rows), -1))), "it read other images"

    header = npy_with_another_header
    return [*BYTE_DAMAGE, header, header, header], whole(0), whole(1), path, read, DataError


def cache_of_images(folder):
    """Whatever is in the cache, the images are those of the files."""
    for i in range(10):
        x = np.random.default_rng(i).integers(0, 256, (6, 5), dtype=np.uint8)
        Image.fromarray(x).save(folder / f"{i}.png")

    def load():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
            patch.setattr(os, "fsync", lambda *_: None)
            return load_images(folder).digest

    digest = load()
    (path,) = (folder / ".cache").rglob("*.npz")
    good = path.read_bytes()

    def read():
        assert load() == digest, "it trusted a damaged cache"

    return [*BYTE_DAMAGE, with_another_npy_header], good, good, path, read, DataError


class WouldTrain(Exception):
    """The run has not reached the number of epochs that its run.json states."""


@pytest.fixture
def finished(run, monkeypatch):
    """finished(name): the reader of this file of a finished run, resumed with and without --epochs."""
    epochs = 2

    def reader(name):
        folder = run("a", "--epochs", epochs)
        path = folder / name
        good, metrics = path.read_bytes(), [row[: len(COLUMNS)] for row in rows(folder)]
        other = good.replace(b"2", b"3")
        pristine = {file: file.read_bytes() for file in folder.glob("*.*") if file != path}
        turns = itertools.cycle([["--epochs", epochs], [] if name == "run.json" else ["--epochs", epochs]])

        def train(*_):
            raise WouldTrain

        monkeypatch.setattr(Trainer, "train_epoch", train)
        monkeypatch.setattr(example, "EPOCHS", 10**6)
        # What takes most of the time reads none of these files: the measurement, the film, git, the disk.
        results = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]
        monkeypatch.setattr(tinygan.run, "measure", lambda *_: copy.deepcopy(results["evaluation"]))
        monkeypatch.setattr(tinygan.run, "read", lambda *_: {"reading": results["reading"]})
        facts = tinygan.run.environment()
        monkeypatch.setattr(tinygan.run, "environment", lambda *_: dict(facts), raising=False)
        monkeypatch.setattr("tinygan.images.save_gif", lambda *_: None)
        monkeypatch.setattr(os, "fsync", lambda *_: None)

        def read():
            for file, content in pristine.items():
                file.write_bytes(content)
            options, ends = next(turns), True
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    run("a", "--resume", *options)
                except WouldTrain:
                    ends = False
            facts = json.loads((folder / "run.json").read_text(encoding="utf-8"), parse_constant=refuse_constant)
            assert type(facts["epochs"]) is int
            if ends:
                assert (facts["epochs"], facts["results"]["epochs"]) == (epochs, epochs)
            else:  # then it is to have more epochs, as the file says, or as MNIST has where the file is lost
                assert not options
                assert facts["epochs"] > epochs
            assert (folder / "checkpoint.npz").read_bytes() == pristine[folder / "checkpoint.npz"]
            assert [row[: len(COLUMNS)] for row in rows(folder)] == metrics

        return TEXT_DAMAGE, good, other, path, read, TinyganError

    return reader


def refuse_constant(word):
    raise AssertionError(f"run.json holds {word}, which is not JSON")


READERS = {
    "load_checkpoint, format 2": archive(saved_run, what_a_checkpoint_says),
    "load_checkpoint, format 1": archive(saved_in_format_1, what_a_checkpoint_says),
    "load_generator, format 2": archive(saved_run, what_a_generator_is),
    "load_generator, format 1": archive(saved_in_format_1, what_a_generator_is),
    "load_generator, right digest": forged,
    "read_idx, plain": plain_idx,
    "read_idx, gzipped": gzipped_idx,
    "load_mnist, plain": mnist_folder(""),
    "load_mnist, gzipped": mnist_folder(".gz"),
    "load_cifar10, files": cifar10_files,
    "load_cifar10, archive": cifar10_archive(checksum=True),
    "load_cifar10, archive with any checksum": cifar10_archive(checksum=False),
    "load_tfd, compressed": tfd_file(compressed=True),
    "load_tfd, plain": tfd_file(compressed=False),
    "load_images, PNG": picture_files("PNG"),
    "load_images, JPEG": picture_files("JPEG"),
    "load_images, .npy": npy_of_images,
    "parzen, .npy": parzen_files("npy"),
    "parzen, IDX": parzen_files("idx"),
}
RESUMED = ["run.json", "metrics.csv"]

# ---- The attack


class Hangs(BaseException):
    """No reader can catch it as an error of a damaged file."""


@contextlib.contextmanager
def at_most(seconds):
    def late(*_):
        raise Hangs(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attack(reader, n, seed=2014, least_refused=0.25):
    """n damaged inputs for a reader. Returns the figures; fails with all that went wrong, each kind once."""
    damages, good, other, path, read, kind = reader
    rng, faults = np.random.default_rng(seed), {}
    counts = {"inputs": n, "refused": 0, "taken, and right": 0}
    most_bytes, longest = 0, 0.0
    for i in range(n):
        damage = damages[i % len(damages)]
        data = damage(rng, good, other)
        if data is not None:
            path.write_bytes(data)
        # Warnings are no errors here: one that a reader turned into a refusal would be none in a user's own process.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tracemalloc.start()
            started = time.perf_counter()
            try:
                with at_most(SECONDS):
                    read()
                counts["taken, and right"] += 1
            except kind as error:
                counts["refused"] += 1
                if path.name not in str(error) and str(path.parent) not in str(error):
                    faults.setdefault(f"{damage.__name__}: no file is named: {error}"[:300], i)
            except (Exception, Hangs) as error:
                faults.setdefault(f"{damage.__name__}: {type(error).__name__}: {error}"[:300], i)
            longest = max(longest, time.perf_counter() - started)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        most_bytes = max(most_bytes, peak)
        if peak > BYTES:
            faults.setdefault(f"{damage.__name__}: it took {peak / 1e6:.0f} MB", i)
    listed = "\n".join(f"  input {i}: {fault}" for fault, i in faults.items())
    assert not faults, f"{len(faults)} kinds of fault with seed {seed}:\n{listed}"
    assert counts["refused"] >= least_refused * n, counts
    return counts | {"largest memory, MB": most_bytes / 1e6, "longest, s": longest}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_or_read_right(name, tmp_path):
    attack(READERS[name](tmp_path), FEW)


@pytest.mark.slow
def test_a_damaged_cache_of_images_is_never_taken_for_them(tmp_path):
    attack(cache_of_images(tmp_path), FEW, least_refused=0)  # it is replaced, and nothing is refused


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_a_run_with_a_damaged_file_beside_its_checkpoint_is_resumed_or_refused(name, finished):
    attack(finished(name), FEW, least_refused=0)  # what such a file holds can be rebuilt: no run need refuse it


@pytest.mark.soak
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_damaged_files(name, tmp_path):
    with Record(f"Damaged files: {name}", 2014) as record:
        record.figures |= attack(READERS[name](tmp_path), times(MANY))


@pytest.mark.soak
@pytest.mark.parametrize("name", RESUMED)
def test_thousands_of_damaged_files_beside_a_checkpoint(name, finished):
    with Record(f"Damaged files: {name} on --resume", 2014) as record:
        record.figures |= attack(finished(name), times(MANY), least_refused=0)
