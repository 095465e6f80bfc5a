"""Features of a frozen backbone, computed once."""

import tempfile

import keras
import numpy as np
from keras import tree

from keras_reg._storage import without_bfloat16
from keras_reg.transfer._arrays import to_numpy
from keras_reg.transfer._batches import Batches
from keras_reg.transfer._data import batches_of


class ShapesDiffer(Exception):
    """Rows of different shapes, as of images of different sizes, which cannot be kept in one array."""


class Store:
    """Collects rows, in memory up to `limit` bytes and in a file beyond.

    Args:
        limit: Bytes that are kept in memory.
        path: A .npy file for all rows, whatever their size. By default the file is a temporary one without a name,
            which disappears with the process, also when it is killed.
    """

    def __init__(self, limit, path=None):
        self.limit, self.path = limit if path is None else -1, path
        self.chunks, self.bytes, self.rows = [], 0, 0
        self.file = None

    def append(self, rows):
        rows = without_bfloat16(rows)
        if self.chunks and rows.shape[1:] != self.chunks[0].shape[1:]:
            raise ShapesDiffer(f"{self.chunks[0].shape[1:]} and {rows.shape[1:]}")
        self.chunks.append(rows)
        self.rows, self.bytes = self.rows + len(rows), self.bytes + rows.nbytes
        if self.bytes > self.limit and self.file is None:
            self.file = tempfile.TemporaryFile() if self.path is None else _open_new(self.path)  # noqa: SIM115
            self._write_header(rows)
        if self.file:
            for chunk in self.chunks:
                self.file.write(chunk.tobytes())
            self.chunks = [rows[:0]]

    def _write_header(self, rows):
        # NumPy leaves room for the first axis to grow, so the final header has the same length.
        shape = (self.rows, *rows.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, header)

    def finish(self):
        """Returns all rows, as an array or a memory map."""
        if self.file is None:
            return np.concatenate(self.chunks)
        with self.file as file:
            self._write_header(self.chunks[0])
            file.flush()
            shape = (self.rows, *self.chunks[0].shape[1:])
            return np.memmap(file, self.chunks[0].dtype, "r", offset=file.tell(), shape=shape)

    def discard(self):
        """Deletes the rows."""
        if self.file:
            self.file.close()
            if self.path is not None:
                self.path.unlink()


def _open_new(path):
    """Opens a new file that replaces whatever is at the path; a link there is not followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path.open("x+b")


def extract(extractor, data, store, shuffled, verbose, check_labels):
    """Returns `Batches` of (features, y[, sample_weight]) for data of (x, y[, sample_weight]).

    Args:
        extractor: The model that computes features from x.
        data: `Batches` or a dataset.
        store: The `Store` for the features.
        shuffled: Whether a dataset has another order in each pass.
        verbose: Whether to show the progress.
        check_labels: Function that checks the labels of each batch before its features are computed.
    """
    total = getattr(data, "num_batches", None)
    progress = keras.utils.Progbar(total, unit_name="batch") if verbose else None
    ours = isinstance(data, Batches)
    sizes, others = [], []
    for x, *rest in batches_of(data):
        sizes.append(len(tree.flatten(x)[0]))
        check_labels(rest[0])
        store.append(_predict(extractor, x, sizes[-1], sizes[0]))
        others.append([part for part in rest if part is not None])
        if progress:
            progress.update(len(sizes), finalize=len(sizes) == total)
    if progress and total is None:
        progress.update(len(sizes), finalize=True)
    if ours:
        return Batches((store.finish(), *data.arrays[1:]), data.sizes, data.shuffle)
    rest = (tree.map_structure(lambda *parts: np.concatenate(parts), *column) for column in zip(*others, strict=True))
    return Batches((store.finish(), *rest), sizes[0] if shuffled else sizes, shuffled)


def _predict(extractor, x, size, full):
    """Computes the features of a batch. A smaller last batch is padded, since a new shape would be compiled anew."""
    if size < full:
        x = tree.map_structure(lambda a: np.concatenate([a, np.repeat(a[-1:], full - size, axis=0)]), x)
    return to_numpy(extractor.predict_on_batch(x))[:size]
