"""Files that a kill cannot leave half written: they replace what was there in one step, and are read without pickle."""

import contextlib
import io
import json
import os
import pathlib
import struct
import zlib

import numpy as np

UNFINISHED = "unfinished-"  # what the name of a file begins with until it is complete
_HEAD = struct.Struct("<QI")  # length and checksum, before each nest in a file that grows


@contextlib.contextmanager
def replacing(path):
    """The path of a new file beside `path`, which takes its place when the block ends without an error.

    A link at either place is replaced, never followed.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(UNFINISHED + path.name)
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_bytes(path, content):
    """Replaces the file by one with this content."""
    with replacing(path) as unfinished, open(unfinished, "xb") as file:
        file.write(content)


def checksum(path):
    """A number that tells the content of one file from that of another."""
    found = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def write_nest(path, nest):
    """Replaces the file by one with a nest of dicts, lists, numbers, words, `None` and NumPy arrays."""
    with replacing(path) as unfinished, open(unfinished, "xb") as file:
        dump_nest(file, nest)


def dump_nest(file, nest):
    """Writes a nest into an open file, as an npz archive whose entry `record` is JSON."""
    arrays = {}
    text = json.dumps(_split(nest, arrays), default=lambda number: number.item()).encode()
    np.savez(file, record=np.frombuffer(text, "uint8"), **arrays)


def append_nest(path, end, nest):
    """Writes a nest behind the first `end` bytes of a file that grows, and cuts off the rest; returns the new end."""
    path, buffer = pathlib.Path(path), io.BytesIO()
    dump_nest(buffer, nest)
    content = buffer.getvalue()
    if path.is_symlink():  # never write where a link leads
        write_bytes(path, path.read_bytes() if path.is_file() else b"")
    with open(path, "ab"), open(path, "r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
    return end + _HEAD.size + len(content)


def read_nests(path, end):
    """The nests in the first `end` bytes of a file that grows; `None` where one of them is damaged."""
    nests, position = [], 0
    if end == 0:
        return nests
    try:
        content = pathlib.Path(path).read_bytes()[:end] if os.path.isfile(path) else b""
    except OSError:
        return None
    while position < end:
        start = position + _HEAD.size
        if start > len(content):
            return None
        length, expected = _HEAD.unpack_from(content, position)
        position = start + length
        part = content[start:position]
        nest = read_nest(io.BytesIO(part)) if zlib.crc32(part) == expected else None
        if nest is None:
            return None
        nests.append(nest)
    return nests


def read_nest(path):
    """The nest in a file, its tuples as lists; `None` where there is none, or the file is damaged or not one of ours.

    The path may also be an open file.
    """
    try:
        if isinstance(path, (str, os.PathLike)) and not os.path.isfile(path):
            return None  # a pipe would wait for ever
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return _join(json.loads(arrays.pop("record").tobytes()), arrays)
    except Exception:  # damaged bytes make zipfile, NumPy and JSON raise almost anything
        return None


def remove(directory, names):
    """Takes away the files of these names and what was left unfinished of them, and the directory if it is empty.

    Links are taken away, not what they lead to; folders stay, and so does a directory that is itself a link.
    """
    directory = pathlib.Path(directory)
    for name in names:
        for path in (directory / name, directory / f"{UNFINISHED}{name}"):
            if path.is_symlink() or path.is_file():
                path.unlink(missing_ok=True)
    if directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir()):
        directory.rmdir()


def _split(nest, arrays):
    """`nest` with every array moved to `arrays` and its name there left in its place."""
    if isinstance(nest, dict):
        return {key: _split(value, arrays) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [_split(value, arrays) for value in nest]
    if not isinstance(nest, np.ndarray):
        return nest
    name = f"array_{len(arrays)}"
    # NumPy's files know no bfloat16; float32 holds it exactly.
    arrays[name] = nest.astype("float32") if nest.dtype.kind == "V" else nest
    return {"array": name}


def _join(nest, arrays):
    """The inverse of `_split`."""
    if isinstance(nest, dict):
        is_array = set(nest) == {"array"} and nest["array"] in arrays
        return arrays[nest["array"]] if is_array else {key: _join(value, arrays) for key, value in nest.items()}
    return [_join(value, arrays) for value in nest] if isinstance(nest, list) else nest
