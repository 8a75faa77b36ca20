"""Save and load a training run: atomically, without pickle, and believing nothing that was not checked.

A checkpoint is an .npz file of six arrays: the vectors θ_g, θ_d, v_g, v_d; `text`, all the rest as JSON; and `digest`,
the SHA-256 of the five others. It holds no wall-clock value: the same run writes the same bytes.
"""

import contextlib
import hashlib
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.errors import CheckpointError

FORMAT = 1
VECTORS = ("theta_g", "theta_d", "v_g", "v_d")
FIELDS = {"epoch": int, "updates": dict, "architecture": dict, "metrics": list, "configuration": dict}
KINDS = dict.fromkeys(VECTORS, ("<f4", "<f8")) | {"text": ("|u1",), "digest": ("|u1",)}
NAMES = tuple(KINDS)
REMEDY = "take another checkpoint, or start afresh"


@dataclass
class Checkpoint:
    """A run at the end of an epoch.

    theta_g, theta_d, v_g, v_d   1-D host arrays, float32 or float64: parameters and velocities of G and D
    epoch                        how many epochs were finished
    updates                      {"G": …, "D": …}: how many updates each player made, the t of the learning rate
    architecture                 {"G": …, "D": …}: the networks in words, repr(network)
    metrics                      a dict of numbers for each epoch, without timing
    configuration                what else decides the run's numbers, as far as JSON can hold it
    """

    theta_g: np.ndarray
    theta_d: np.ndarray
    v_g: np.ndarray
    v_d: np.ndarray
    epoch: int
    updates: dict[str, int]
    architecture: dict[str, str]
    metrics: list[dict[str, Any]]
    configuration: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write the checkpoint, all of it or nothing: whenever the power fails, path is the old one or the new one, whole.

    It is written beside path under the name path + ".tmp", forced to the disk, and only then renamed.
    NumPy's numbers become Python's. Raises CheckpointError for what load_checkpoint would refuse, and where the disk is
    full or the folder cannot be written: the temporary file is removed, and the checkpoint that was there is intact.
    """
    path = Path(path)
    arrays = {name: np.ascontiguousarray(getattr(checkpoint, name)) for name in VECTORS}
    fields = {"format": FORMAT} | {key: getattr(checkpoint, key) for key in FIELDS}
    try:
        _require_kinds({name: (array.dtype, array.shape) for name, array in arrays.items()})
        arrays["text"] = np.frombuffer(json.dumps(fields, allow_nan=False, default=_plain).encode(), np.uint8)
        _parse(arrays["text"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not written, it could not be loaded ({error}): mend the Checkpoint") from error
    _require_finite(path, arrays)
    arrays["digest"] = np.frombuffer(_digest(arrays), np.uint8)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # numpy.savez, but for its allow_pickle
                for name in NAMES:
                    with archive.open(name + ".npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, arrays[name], allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where nothing could be written, there may be nothing to remove either
            temporary.unlink()
        if isinstance(error, OSError):
            size = sum(array.nbytes for array in arrays.values()) / 1e6
            raise CheckpointError(
                f"{path}: not written ({error.strerror or error}); a checkpoint that was there is intact: "
                f"make room for {size:.0f} MB in a folder that can be written"
            ) from error
        raise


def load_checkpoint(path: str | os.PathLike[str], architecture: dict[str, str] | None = None) -> Checkpoint:
    """The checkpoint at path; with `architecture`, only if its networks are these ({"G": repr(G)} asks for G alone).

    The shapes, types and sizes that the file promises are checked against its own size before anything large is
    allocated, then the architecture; after reading, the digest, and that every number is finite.
    Raises CheckpointError, with the file's name, what is wrong and the remedy.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            _inspect(archive, os.fstat(file.fileno()).st_size)
            arrays = {"text": _read(archive, "text")}
            fields = _parse(arrays["text"])
            for player, words in (architecture or {}).items():
                found = fields["architecture"].get(player)
                if found != words:
                    raise CheckpointError(
                        f"{path}: of another architecture: its {player} is {found}, not {words}: "
                        f"ask for the networks that it was trained with, or start afresh in another folder"
                    )
            arrays |= {name: _read(archive, name) for name in (*VECTORS, "digest")}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file: name a checkpoint that a run has written") from None
    except PermissionError as error:
        raise CheckpointError(f"{path}: {error.strerror}: make it readable") from error
    except CheckpointError:
        raise
    except Exception as error:  # zipfile, the npy reader and json raise a dozen kinds on damaged bytes
        reason = str(error) or type(error).__name__
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({reason}): {REMEDY}") from error
    if arrays["digest"].tobytes() != _digest(arrays):
        raise CheckpointError(f"{path}: altered since it was written, its digest differs: {REMEDY}")
    _require_finite(path, arrays)
    return Checkpoint(**{name: arrays[name] for name in VECTORS}, **fields)


def _digest(arrays: dict[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name in (*VECTORS, "text"):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].size} ".encode())
        digest.update(arrays[name].data)
    return digest.digest()


def _require_finite(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> None:
    for name in VECTORS:
        if not np.isfinite(arrays[name]).all():
            raise CheckpointError(f"{path}: {name} has values that are not finite, the run has diverged: {REMEDY}")


def _inspect(archive: zipfile.ZipFile, size: int) -> None:
    """Raises ValueError unless these are the arrays expected, stored as they are, together no larger than the file."""
    members = archive.infolist()
    if sorted(member.filename for member in members) != sorted(name + ".npy" for name in NAMES):
        raise ValueError("it holds other arrays")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("it promises more bytes than it has")
    headers = {}
    for name in NAMES:
        with archive.open(name + ".npy") as member:
            if np.lib.format.read_magic(member) != (1, 0):
                raise ValueError(f"{name} is of another version of the npy format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            header = member.tell()
        if header + dtype.itemsize * math.prod(shape) != archive.getinfo(name + ".npy").file_size:
            raise ValueError(f"{name} promises {math.prod(shape)} values, and has another number")
        headers[name] = dtype, shape
    _require_kinds(headers)


def _require_kinds(headers: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    for name, (dtype, shape) in headers.items():
        if dtype.str not in KINDS[name] or len(shape) != 1:
            raise ValueError(f"{name} is {dtype.str} of shape {shape}")
    if headers["theta_g"][1] != headers["v_g"][1] or headers["theta_d"][1] != headers["v_d"][1]:
        raise ValueError("parameters and velocities differ in number")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")


def _read(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name + ".npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _parse(text: np.ndarray) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text.tobytes())
    if fields.pop("format") != FORMAT:
        raise ValueError("it is of another version of tinygan")
    if fields.keys() != FIELDS.keys() or any(not isinstance(fields[key], kind) for key, kind in FIELDS.items()):
        raise ValueError("its text lacks what a checkpoint states")
    if any(not isinstance(fields["updates"].get(player), int) for player in "GD"):
        raise ValueError("it does not state how many updates G and D made")
    return fields


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to the disk, where that can be asked for: the new file is whole and in place already."""
    with contextlib.suppress(OSError):  # some file systems do not sync a folder, and some systems do not open one
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
