"""Files that a kill cannot leave half written: each replaces the old one in a single step. Reading needs no pickle."""

import contextlib
import io
import json
import os
import pathlib
import struct
import zlib

import numpy as np

UNFINISHED = "unfinished-"  # the prefix of a file until it is complete
_HEAD = struct.Struct("<QI")  # length and checksum, in front of each nest in a growing file


@contextlib.contextmanager
def replacing(path):
    """Yields the path of a new file beside `path`, and replaces `path` by it if the block ends without an error.

    A link at either path is replaced, never followed.
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
    """Replaces a file by one with this content."""
    with replacing(path) as unfinished, open(unfinished, "xb") as file:
        file.write(content)


def checksum(path):
    """Returns a number that distinguishes the content of one file from that of another."""
    found = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def write_nest(path, nest):
    """Replaces a file by one with a nest of dicts, lists, numbers, strings, `None` and NumPy arrays."""
    with replacing(path) as unfinished, open(unfinished, "xb") as file:
        dump_nest(file, nest)


def dump_nest(file, nest):
    """Writes a nest into an open file: an npz archive of the arrays, whose entry `record` is JSON."""
    arrays = {}
    text = json.dumps(_split(nest, arrays), default=lambda number: number.item()).encode()
    np.savez(file, record=np.frombuffer(text, "uint8"), **arrays)


def append_nest(path, end, nest):
    """Writes a nest after the first `end` bytes of a growing file, cuts off the rest, and returns the new end."""
    path, buffer = pathlib.Path(path), io.BytesIO()
    dump_nest(buffer, nest)
    content = buffer.getvalue()
    if path.is_symlink():  # replace the link instead of writing to its target
        write_bytes(path, path.read_bytes() if path.is_file() else b"")
    with open(path, "ab"), open(path, "r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
    return end + _HEAD.size + len(content)


def read_nests(path, end):
    """Returns the nests in the first `end` bytes of a growing file, or `None` if one of them is damaged."""
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
    """Returns the nest in a file, with tuples as lists, or `None` if the file is missing, damaged or something else.

    The path may also be an open file.
    """
    try:
        if isinstance(path, (str, os.PathLike)):
            if not os.path.isfile(path):
                return None  # reading a pipe would wait for ever
            with open(path, "rb") as file:  # NumPy would leave a damaged file open
                return read_nest(file)
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return _join(json.loads(arrays.pop("record").tobytes()), arrays)
    except Exception:  # damaged bytes make zipfile, NumPy and JSON raise almost anything
        return None


def numbers_in(directory, pattern):
    """Returns the numbers in the names of files that match a compiled pattern with one group."""
    names = os.listdir(directory) if os.path.isdir(directory) else ()
    return [int(match[1]) for match in map(pattern.fullmatch, names) if match]


def remove(directory, names):
    """Deletes the files of these names, their unfinished versions, and the directory if it is then empty.

    Links are deleted, but not their targets. Folders stay, and so does a directory that is itself a link.
    """
    directory = pathlib.Path(directory)
    for name in names:
        for path in (directory / name, directory / f"{UNFINISHED}{name}"):
            if path.is_symlink() or path.is_file():
                path.unlink(missing_ok=True)
    if directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir()):
        directory.rmdir()


def without_bfloat16(array):
    """Returns an array of bfloat16, which NumPy's files do not support, as float32; any other array as it is."""
    return array.astype("float32") if array.dtype.kind == "V" else array


def _split(nest, arrays):
    """Moves every array of `nest` to `arrays`, and puts its name there in its place."""
    if isinstance(nest, dict):
        return {key: _split(value, arrays) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [_split(value, arrays) for value in nest]
    if not isinstance(nest, np.ndarray):
        return nest
    name = f"array_{len(arrays)}"
    arrays[name] = without_bfloat16(nest)
    return {"array": name}


def _join(nest, arrays):
    """The inverse of `_split`."""
    if isinstance(nest, dict):
        is_array = set(nest) == {"array"} and nest["array"] in arrays
        return arrays[nest["array"]] if is_array else {key: _join(value, arrays) for key, value in nest.items()}
    return [_join(value, arrays) for value in nest] if isinstance(nest, list) else nest
