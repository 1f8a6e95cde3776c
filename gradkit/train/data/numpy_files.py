"""Read .npy and .npz files into labelled samples, never unpickling anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from gradkit.errors import DataError, did_you_mean
from gradkit.train.data.files import checked_file, fingerprint, head, named, quoted, require_memory, translated
from gradkit.train.data.labels import map_array
from gradkit.train.data.samples import Array, ArrayBlocks, Samples
from gradkit.train.schema.data import NpyData

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK"


def read_numpy(config: NpyData) -> Samples:
    """Labelled samples of a pair of .npy files, memory-mapped, or of two arrays in an .npz.

    What a file is shows in its first bytes, not in its name. Features are called x0, x1, ...

    Args:
        config: Paths, keys and positive label.

    Raises:
        DataError: A file is missing, damaged, pickled or too large, or the arrays cannot be trained on.
    """
    file = checked_file(config.path)
    where = named(config.path)
    if _is_archive(file, where):
        if config.targets is not None:
            raise DataError(
                f"{where}: is an .npz, which holds the targets itself (data.targets_key={config.targets_key!r}); "
                f"data.targets={config.targets!r} does not go with it."
            )
        features, targets = _from_archive(file, where, config)
        files, target_where, name = [file], where, f"array {config.targets_key!r}"
    else:
        if config.targets is None:
            raise DataError(
                f"{where}: holds the features only; data.targets must name a second .npy, of shape (samples,)."
            )
        target_file, target_where = checked_file(config.targets, "targets"), named(config.targets, "targets")
        if _is_archive(target_file, target_where):
            raise DataError(f"{target_where}: is an .npz; expected an .npy, like data.path.")
        features = _mapped(file, where)
        targets = _mapped(target_file, target_where)
        files, name = [file, target_file], "the array"
    _check_features(features, where, config)
    targets, notes = _flat_targets(targets, target_where, name)
    if len(targets) != len(features):
        raise DataError(f"{target_where}: {name} has {len(targets)} targets for {len(features)} samples in {where}.")
    mapped, pair = map_array(targets, config.positive, target_where, name)
    with translated(where, "a NumPy file"):
        identity, note = fingerprint(files)
    return Samples(
        where=where,
        features=ArrayBlocks(features),
        targets=mapped,
        feature_names=tuple(f"x{index}" for index in range(features.shape[1])),
        label_mapping=pair.mapping,
        fingerprint=identity,
        notes=tuple(text for text in (note, *notes, pair.note) if text),
    )


def _is_archive(file: Path, where: str) -> bool:
    with translated(where, "a NumPy file"):
        start = head(file, len(NPY_MAGIC))
    if start.startswith(ZIP_MAGIC):
        return True
    if start != NPY_MAGIC:
        pickled = " (it looks like a pickle, which can run code and is never loaded)" if start[:1] == b"\x80" else ""
        raise DataError(f"{where}: is neither .npy nor .npz{pickled}.")
    return False


def _mapped(file: Path, where: str) -> Array:
    with translated(where, "an .npy file"):
        with file.open("rb") as stream:
            _refuse_objects(stream, where)
        array: Array = np.load(file, mmap_mode="r", allow_pickle=False)
        return array


def _from_archive(file: Path, where: str, config: NpyData) -> tuple[Array, Array]:
    with translated(where, "an .npz file"), zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for key, option in ((config.features_key, "features_key"), (config.targets_key, "targets_key")):
            if key not in members:
                raise DataError(
                    f"{where}: data.{option}={key!r} is not an array in it.{did_you_mean(key, members)} "
                    f"It holds {quoted(list(members)) or 'nothing'}."
                )
        # Before anything is unpacked: a few kilobytes can stand for terabytes.
        wanted = [members[config.features_key], members[config.targets_key]]
        require_memory(sum(info.file_size for info in wanted), where)
        arrays = []
        for info in wanted:
            with archive.open(info) as stream:
                shape, dtype = _refuse_objects(stream, where)
                require_memory(int(np.prod(shape, dtype=object)) * dtype.itemsize, where)
            with archive.open(info) as stream:
                arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
        return arrays[0], arrays[1]


def _refuse_objects(stream: object, where: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and dtype from the header of an .npy, unless it holds Python objects."""
    version = np.lib.format.read_magic(stream)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)  # type: ignore[arg-type]
    if dtype.hasobject:
        raise DataError(f"{where}: holds pickled Python objects, which can run code and are never loaded.")
    return shape, dtype


def _check_features(features: Array, where: str, config: NpyData) -> None:
    if features.dtype.kind not in "biuf":
        raise DataError(f"{where}: the features have dtype {features.dtype}; expected real numbers.")
    if features.ndim != 2 or 0 in features.shape:
        hint = " (one feature is a column: reshape(-1, 1))" if features.ndim == 1 else ""
        raise DataError(f"{where}: the features have shape {features.shape}; expected (samples, features){hint}.")


def _flat_targets(targets: Array, where: str, name: str) -> tuple[Array, list[str]]:
    if targets.dtype.kind not in "biufUS":
        raise DataError(f"{where}: {name} has dtype {targets.dtype}; expected numbers, booleans or text as labels.")
    if targets.ndim == 2 and targets.shape[1] == 1:
        return np.asarray(targets[:, 0]), ["Targets of shape (n, 1) were read as (n,)."]
    if targets.ndim != 1:
        raise DataError(f"{where}: {name} has shape {targets.shape}; expected targets of shape (samples,).")
    return np.asarray(targets), []
