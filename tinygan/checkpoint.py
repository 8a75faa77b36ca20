"""Save and load a training run. A file is written whole or not at all, needs no pickle, and is checked before it is used.

A checkpoint is an .npz file. It holds named vectors ("G.theta", "G.velocity", "D.theta", …); `text`, all the rest as JSON;
and `digest`, the SHA-256 of these. It holds no date and no time, so the same run writes the same bytes.

This is format 2. Format 1 could hold the four vectors of a GAN only. It still loads: the vectors get the names of format 2,
and the architecture stays a text, repr(network).
"""

import errno
import hashlib
import itertools
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.backend import write_atomically
from tinygan.errors import CheckpointError
from tinygan.files import open_file
from tinygan.network import Network

FORMAT = 2
NAME = re.compile(r"[A-Za-z]\w{0,63}\.[A-Za-z]\w{0,63}")  # of a vector: player.what
MOST = 1000  # vectors that a checkpoint may hold
FLOATS = ("<f4", "<f8")
FORMAT_1 = {"theta_g": "G.theta", "theta_d": "D.theta", "v_g": "G.velocity", "v_d": "D.velocity"}
FIELDS = {"epoch": int, "updates": dict, "architecture": dict, "metrics": list, "configuration": dict}
MOST_EPOCHS = 10**9
MOST_LAYERS = 10_000
EXACT = 2**53  # integers up to this are exact as floats, too: updates, and the sizes of layers
DEEPEST = 50  # levels of lists and dicts in one another
REMEDY = "take a different checkpoint, or start a new run"


@dataclass
class Checkpoint:
    """A run at the end of an epoch.

    vectors         {"G.theta": …, "G.velocity": …}: 1-D host arrays, float32 or float64, by player and name; running
                    statistics are "G.statistics", other state of the model "state.…"
    epoch           how many epochs were finished
    updates         {"G": …, "D": …}: how many updates each player made, the t of the learning rate
    architecture    {"G": network.describe(), …}; in format 1 the text repr(network)
    metrics         a dict of numbers for each epoch, without timing
    configuration   all other settings that decide the run's numbers, as values that JSON can hold
    """

    vectors: dict[str, npt.NDArray[Any]]
    epoch: int
    updates: dict[str, int]
    architecture: dict[str, Any]
    metrics: list[dict[str, Any]]
    configuration: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the checkpoint, all of it or nothing. If the power fails, path is the old checkpoint or the new one, whole.

    NumPy's numbers become Python's. Raises CheckpointError for a checkpoint that load_checkpoint would refuse, and if the
    disk is full or the folder cannot be written. The temporary file is then removed, and an earlier checkpoint is intact.
    """
    arrays = {name: np.ascontiguousarray(vector) for name, vector in checkpoint.vectors.items()}
    fields = {"format": FORMAT} | {key: getattr(checkpoint, key) for key in FIELDS}
    try:
        text = np.frombuffer(_dump(fields).encode(), np.uint8)
        _parse(text)
        _require_vectors({name: (array.dtype, array.shape) for name, array in arrays.items()})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not written, since it could not be loaded ({error}): correct the Checkpoint") from error
    _require_finite(path, arrays)
    arrays["text"] = text
    arrays["digest"] = np.frombuffer(_digest(arrays), np.uint8)
    try:
        # as numpy.savez does, which would allow pickle
        with write_atomically(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(name + ".npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    except OSError as error:
        size = math.ceil(sum(array.nbytes for array in arrays.values()) / 1e6)
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        remedy = f"make room for {size} MB" if full else "name a file in a folder that exists and can be written"
        raise CheckpointError(
            f"{path}: not written ({error.strerror or error}); an earlier checkpoint is intact: {remedy}"
        ) from error


def _difference(found: Any, mine: list[Any], text: str) -> str:
    """In words, what a file says of a network, and what the network is: the first layer of two lists in which they differ."""
    if not isinstance(found, list):  # the text of format 1; None where there is no such player
        return f"{found!s:.300}, not {text:.300}"
    layers = enumerate(itertools.zip_longest(found, mine, fillvalue="no layer"))
    i, (its, ours) = next((i, pair) for i, pair in layers if pair[0] != pair[1])
    return f"different from layer {i} on: the file has {its!s:.300} there, and the network {ours!s:.300}"


def load_checkpoint(path: str | os.PathLike[str], networks: Mapping[str, Network] | None = None) -> Checkpoint:
    """The checkpoint at path. If networks are given, {"G": G, …}, it must have their architectures.

    Before anything large is allocated, this checks the stated shapes, types and sizes against the size of the file, and
    then the architecture. After reading it checks the digest, and that every number is finite.
    Raises CheckpointError, which names the file, what is wrong and the remedy.
    """
    try:
        file = open_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file: name a checkpoint that a run has written") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}: name a checkpoint that can be read") from error
    try:
        with file, zipfile.ZipFile(file) as archive:
            names = _inspect(archive, os.fstat(file.fileno()).st_size)
            text = _read(archive, "text")
            fields, version = _parse(text)
            if (version == 1) != (set(names) == set(FORMAT_1)):
                raise ValueError("its arrays are not those of a checkpoint")
            for player, network in (networks or {}).items():
                found, mine = fields["architecture"].get(player), _as_json(network.describe())
                if found not in (mine, repr(network)):
                    raise CheckpointError(
                        f"{path}: of a different architecture: its {player} is {_difference(found, mine, repr(network))}: "
                        f"ask for the networks that it was trained with, or start a new run in a different folder"
                    )
            arrays = {name: _read(archive, name) for name in (*names, "digest")}
    except CheckpointError:
        raise
    except Exception as error:  # on damaged bytes zipfile, the npy reader and json raise a dozen kinds
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({reason}): {REMEDY}") from error
    digest = arrays.pop("digest").tobytes()
    if digest != _digest({name: arrays[name] for name in (FORMAT_1 if version == 1 else names)} | {"text": text}):
        raise CheckpointError(f"{path}: altered since it was written: its digest differs: {REMEDY}")
    _require_finite(path, arrays)
    if version == 1:
        arrays = {FORMAT_1[name]: array for name, array in arrays.items()}
    return Checkpoint(vectors=arrays, **fields)


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.size} ".encode())
        digest.update(array.data)
    return digest.digest()


def _require_finite(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise CheckpointError(f"{path}: {name} has values that are not finite: the run has diverged: {REMEDY}")


def _inspect(archive: zipfile.ZipFile, size: int) -> list[str]:
    """The names of the vectors. Raises ValueError unless all arrays are uncompressed and together no larger than the file."""
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if len(set(names)) < len(names) or not {"text", "digest"} < set(names):
        raise ValueError("its arrays are not those of a checkpoint")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("it states more bytes than it has")
    headers = {}
    for name in names:
        with archive.open(name + ".npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):
                raise ValueError(f"{name} is in a different version of the npy format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            header = member.tell()
        if header + dtype.itemsize * math.prod(shape) != archive.getinfo(name + ".npy").file_size:
            raise ValueError(f"{name} states {math.prod(shape)} values and has a different number of them")
        headers[name] = dtype, shape
    for name in "text", "digest":
        dtype, shape = headers.pop(name)
        if dtype.str != "|u1" or len(shape) != 1:
            raise ValueError(f"{name} is {dtype.str} of shape {shape}")
    renamed = FORMAT_1 if set(headers) == set(FORMAT_1) else {}
    _require_vectors({renamed.get(name, name): header for name, header in headers.items()})
    return list(headers)


def _require_vectors(headers: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    if not 0 < len(headers) <= MOST:
        raise ValueError(f"it has {len(headers)} vectors, not 1 to {MOST}")
    for name, (dtype, shape) in headers.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"a vector is named {name!r}: a name is player.what, as in G.theta")
        if dtype.str not in FLOATS or len(shape) != 1:
            raise ValueError(f"{name} is {dtype.str} of shape {shape}")
        player, _, what = name.partition(".")
        if what == "velocity" and headers.get(f"{player}.theta") != (dtype, shape):
            raise ValueError(f"{name} is not like {player}.theta")


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, default=_plain)


def _as_json(value: Any) -> Any:
    """The value as it is after saving and loading: tuples become lists, and NumPy's numbers Python's."""
    return json.loads(_dump(value))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"JSON cannot hold a {type(value).__name__}")


def _read(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name + ".npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _parse(text: npt.NDArray[Any]) -> tuple[dict[str, Any], int]:
    """The fields that the text states, and the number of the format. Raises ValueError, or what json raises."""
    fields: dict[str, Any] = json.loads(text.tobytes(), parse_constant=_number, parse_float=_number)
    version = fields.pop("format")
    if type(version) is not int or version not in (1, FORMAT):
        raise ValueError("a different version of tinygan wrote it")
    if fields.keys() != FIELDS.keys() or any(not isinstance(fields[key], kind) for key, kind in FIELDS.items()):
        raise ValueError("its text does not have the fields of a checkpoint")
    if _depth(fields) > DEEPEST:
        raise ValueError(f"its fields are nested more than {DEEPEST} deep")
    if not _is_count(fields["epoch"], MOST_EPOCHS):
        raise ValueError(f"its epoch is {_short(fields['epoch'])}, not an integer from 0 to {MOST_EPOCHS}")
    updates, architecture = fields["updates"], fields["architecture"]
    if not updates or updates.keys() != architecture.keys():
        raise ValueError("it does not state how many updates each player made")
    for player, n in updates.items():
        if not _is_count(n, EXACT):
            raise ValueError(f"{player} made {_short(n)} updates, not an integer from 0 to 2⁵³")
        if version == 1 and not isinstance(architecture[player], str):
            raise ValueError(f"the architecture of {player} is no text, which it is in format 1")
        if version != 1:
            _require_layers(player, architecture[player])
    for row in fields["metrics"]:
        if not isinstance(row, dict) or not all(map(_is_number, row.values())):
            raise ValueError(f"its metrics have {_short(row)} in the place of an epoch's numbers")
        if not _is_count(row.get("epoch", 0), MOST_EPOCHS):
            raise ValueError(f"its metrics have {_short(row['epoch'])} in the place of an epoch")
    return fields, version


def _number(text: str) -> float:
    """A float in the text. JSON has no NaN and no infinity, but Python's reader takes them, and makes one of 1e999."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"its text has the number {text[:20]}")
    return number


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= EXACT)


def _short(value: Any) -> str:
    """The value in an error message; an integer of thousands of digits has no repr."""
    return f"an integer of {value.bit_length()} bits" if isinstance(value, int) and abs(value) > 10**30 else f"{value!r:.100}"


def _depth(value: Any) -> int:
    """How deep lists and dicts are nested in it, no further than is allowed."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        inside = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level, depth = [each for values in inside for each in values], depth + 1
    return depth


def _require_layers(player: str, layers: Any) -> None:
    """Raises ValueError for what Network.describe cannot have made."""
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise ValueError(f"the architecture of {player} is no list of at most {MOST_LAYERS} layers")
    for i, layer in enumerate(layers):
        if not isinstance(layer, dict) or layer.keys() != {"class", "config"}:
            raise ValueError(f"layer {i} of {player} is {_short(layer)}, without a class and a config")
        if not isinstance(layer["class"], str) or not isinstance(layer["config"], dict):
            raise ValueError(f"layer {i} of {player} is {_short(layer)}, whose class is no name or whose config is no dict")
        left = [layer["config"]]
        while left:
            value = left.pop()
            left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            if type(value) is int and abs(value) > EXACT:
                raise ValueError(f"layer {i} of {player} has a size of {_short(value)}")
