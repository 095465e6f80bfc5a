"""Features of a frozen backbone, computed once."""

import dataclasses
import tempfile

import keras
import numpy as np
from keras import tree

from keras_reg.transfer._data import Batches, batches_of, repeats, to_numpy
from keras_reg.transfer._layers import inside


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why features are not computed once; `soft` where one may insist."""

    reason: str
    soft: bool = False


def refusal_by_settings(phase, extractor, augmentation, fit_arguments, callbacks):
    """Why the features are not computed once in this phase, whatever the data; else `None`."""
    if phase.unfreeze is not None:
        return Refusal("the backbone trains")
    if phase.cache_features is False:
        return Refusal("cache_features=False")
    if augmentation is not None:
        return Refusal("the augmentation before the backbone changes the images in every epoch")
    if extractor.trainable_variables:
        return Refusal("weights before the head train")
    if fit_arguments.get("steps_per_epoch"):
        return Refusal("steps_per_epoch takes other images in every epoch")
    if any(isinstance(callback, keras.callbacks.ModelCheckpoint) for callback in callbacks):
        return Refusal("ModelCheckpoint would save the head alone")
    if any(getattr(layer, "activity_regularizer", None) for layer in inside(extractor)):
        return Refusal("the backbone adds to the loss")
    random = [layer.name for layer in inside(extractor) if is_random(layer)]
    if random:
        some = ", ".join(random[:3]) + (f" and {len(random) - 3} more" if len(random) > 3 else "")
        return Refusal(f"{some} before the head {'is' if len(random) == 1 else 'are'} random", soft=True)
    return Refusal("there is but one epoch", soft=True) if phase.epochs == 1 else None


def refusal_by_data(extractor, train, validation):
    """(why the features of these data are not computed once or `None`, whether the data are shuffled)."""
    found = [repeats(data) for data in (train, validation) if data is not None]
    if "nothing" in found:
        return Refusal("the data can be gone through only once"), False
    if "other images" in found:
        return Refusal("the data are other images in every pass: there is augmentation in them"), False
    if depends_on_training(extractor, next(batches_of(train))[0]):
        return Refusal("a layer before the head computes otherwise in training although it is frozen", soft=True), False
    return None, found[0] == "another order"


def is_random(layer):
    """Whether a layer draws numbers in training, judged by the seed that it holds and rates of 0."""
    values = [item for value in vars(layer).values() for item in (value if isinstance(value, list) else [value])]
    if not any(isinstance(value, keras.random.SeedGenerator) for value in values):
        return False
    rates = [getattr(layer, name, None) for name in ("rate", "stddev", "drop_path_rate")]
    return not any(isinstance(rate, (int, float)) and rate == 0 for rate in rates)


def depends_on_training(extractor, x):
    """Whether layers that are not Keras' own compute otherwise in training although they are frozen."""
    if all(type(layer).__module__.split(".")[0] in ("keras", "keras_reg") for layer in inside(extractor)):
        return False
    few = tree.map_structure(lambda array: array[:4], x)
    a, b = (to_numpy(extractor(few, training=training)) for training in (True, False))
    return not np.allclose(a.astype("float32"), b.astype("float32"), rtol=1e-3, atol=1e-5)


class Store:
    """Rows that are appended, kept in memory up to `limit` bytes and in a file beyond.

    Args:
        limit: Bytes that are kept in memory.
        path: A .npy file for all rows, whatever their size; by default the file is a temporary one without a name,
            which is gone with the process, also when it is killed.
    """

    def __init__(self, limit, path=None):
        self.limit, self.path = limit if path is None else -1, path
        self.chunks, self.bytes, self.rows = [], 0, 0
        self.file = None

    def append(self, rows):
        rows = rows.astype("float32") if rows.dtype.kind == "V" else rows  # NumPy's files know no bfloat16
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
        # NumPy leaves room in it for the first axis to grow, so that it is as long at the end.
        shape = (self.rows, *rows.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, header)

    def finish(self):
        """All rows, as an array or a memory map."""
        if self.file is None:
            return np.concatenate(self.chunks)
        with self.file as file:
            self._write_header(self.chunks[0])
            file.flush()
            shape = (self.rows, *self.chunks[0].shape[1:])
            return np.memmap(file, self.chunks[0].dtype, "r", offset=file.tell(), shape=shape)


def _open_new(path):
    """A file that replaces what is at the path; a link there is not followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path.open("x+b")


def extract(extractor, data, store, shuffled, verbose, check_labels):
    """`Batches` of (features, y[, sample_weight]) from data of (x, y[, sample_weight]).

    Args:
        extractor: The model that makes features of x.
        data: `Batches` or a dataset.
        store: The `Store` for the features.
        shuffled: Whether a dataset comes in another order each time.
        verbose: Whether to show the progress.
        check_labels: Function that is given the labels of each batch, before its features are computed.
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
    """A last, smaller batch is filled up: another shape would be compiled anew."""
    if size < full:
        x = tree.map_structure(lambda a: np.concatenate([a, np.repeat(a[-1:], full - size, axis=0)]), x)
    return to_numpy(extractor.predict_on_batch(x))[:size]
