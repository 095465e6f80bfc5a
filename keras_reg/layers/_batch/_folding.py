"""Videos and signals as images.

A video becomes an image with the channels of all frames, or with the frames below one another. Code for images then
draws once per clip, and moves, cuts and erases all frames alike. A signal becomes an image of width 1, in which a box
is an interval.
"""

import dataclasses
import math

import keras

from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import each, map_arrays
from keras_reg.layers._batch._shapes import spatial_axes, spec_of, static


@dataclasses.dataclass(frozen=True)
class Fold:
    """How one array is folded: each group of axes is merged into one axis. An empty group adds an axis of size 1."""

    groups: tuple

    @property
    def order(self):
        """The axes in the order of the groups."""
        return tuple(axis for group in self.groups for axis in group)

    def fold(self, array, ops):
        """Returns the folded array or specification."""
        if self is AS_IT_IS:
            return array
        sizes = tuple(array.shape) if _is_spec(array) else ops.shape(array)
        shape = tuple(_product([sizes[axis] for axis in group]) for group in self.groups)
        if _is_spec(array):
            return spec_of(shape, dtype_of(array))
        return ops.reshape(_transposed(array, self.order, ops), shape)

    def unfold(self, array, like, ops):
        """Inverts `fold`. `like` is the original array, which gives the sizes of merged axes. Others may change."""
        if self is AS_IT_IS:
            return array
        sizes = tuple(like.shape) if _is_spec(array) else ops.shape(like)
        folded = tuple(array.shape) if _is_spec(array) else ops.shape(array)
        found = dict(enumerate(sizes))
        found.update({group[0]: size for group, size in zip(self.groups, folded, strict=True) if len(group) == 1})
        if _is_spec(array):
            return spec_of(tuple(found[axis] for axis in range(len(sizes))), dtype_of(array))
        array = ops.reshape(array, tuple(found[axis] for axis in self.order))
        return _transposed(array, tuple(self.order.index(axis) for axis in range(len(sizes))), ops)


AS_IT_IS = Fold(())
# Keys: the kind and whether channels are last; then the number of axes, with and without channels.
FOLDS = {
    ("signal", True): {3: ((0,), (1,), (), (2,)), 2: ((0,), (1,), ())},
    ("signal", False): {3: ((0,), (1,), (2,), ()), 2: ((0,), (1,), ())},
    ("channels", True): {5: ((0,), (2,), (3,), (1, 4)), 4: ((0,), (2,), (3,), (1,))},
    ("channels", False): {5: ((0,), (1, 2), (3,), (4,)), 4: ((0,), (1,), (2,), (3,))},
    ("rows", True): {5: ((0,), (1, 2), (3,), (4,)), 4: ((0,), (1, 2), (3,))},
    ("rows", False): {5: ((0,), (1,), (2, 3), (4,)), 4: ((0,), (1, 2), (3,))},
}


class Folding:
    """Converts a batch of videos or signals to images and back.

    Args:
        batch: The `Batch`, of arrays or specifications.
        data_format: "channels_last" or "channels_first".
        frames: "channels" if one image gets the channels of all frames, or "rows" if the frames are placed below one
            another. Use "rows" for layers that compute with the channels of a pixel.
    """

    def __init__(self, batch, data_format, frames="channels"):
        if batch.boxes is not None:
            fail("Bounding boxes are only supported for images.", kind=batch.kind)
        self.batch, self.last = batch, data_format == "channels_last"
        self.folds = FOLDS["signal" if batch.kind == "signal" else frames, self.last]
        self.spatial = spatial_axes(data_format, batch.kind)
        time = self.spatial[0]
        self.frames = 1
        if batch.kind == "video" and frames == "channels":
            self.frames = batch.images.shape[time] if _is_spec(batch.images) else batch.ops.shape(batch.images)[time]
        self.images = Fold(self.folds[len(batch.images.shape)])
        self.labels = map_arrays(self._of_label, batch.labels)
        self.weights = map_arrays(self._of_weights, batch.sample_weights)
        self.masks = map_arrays(self._of_mask, batch.masks)

    def fold(self):
        """Returns the batch as images."""
        batch, ops = self.batch, self.batch.ops

        def of(arrays, folds):
            return map_arrays(lambda array, fold: fold.fold(array, ops), arrays, folds)

        return dataclasses.replace(
            batch,
            images=self.images.fold(batch.images, ops),
            terms=[(of(labels, self.labels), weight) for labels, weight in batch.terms],
            dominant=batch.dominant and (of(batch.dominant[0], self.labels), batch.dominant[1]),
            sample_weights=of(batch.sample_weights, self.weights),
            masks=of(batch.masks, self.masks),
            kind="image", frames=self.frames, is_signal=batch.kind == "signal", fresh=False,
        )  # fmt: skip

    def unfold(self, done):
        """Converts the processed images back to videos or signals."""
        batch, ops = self.batch, self.batch.ops

        def of(arrays, folds, like):
            return map_arrays(lambda array, fold, old: fold.unfold(array, old, ops), arrays, folds, like)

        return dataclasses.replace(
            done,
            images=self.images.unfold(done.images, batch.images, ops),
            terms=[(of(labels, self.labels, batch.labels), weight) for labels, weight in done.terms],
            dominant=done.dominant and (of(done.dominant[0], self.labels, batch.labels), done.dominant[1]),
            sample_weights=of(done.sample_weights, self.weights, batch.sample_weights),
            masks=of(done.masks, self.masks, batch.masks),
            kind=batch.kind, frames=1, is_signal=False, fresh=False,
        )  # fmt: skip

    def _of_label(self, array):
        rank, time = len(array.shape), static(self.batch.images, self.spatial[0])
        if rank == 2 and self.batch.kind == "signal":
            if static(array, 1) == time and time not in (None, 1):
                fail(
                    "Labels of shape (batch, time) may be one label per step or one row per sample. Pass one label "
                    "per step as (batch, time, 1).",
                    labels=tuple(array.shape), images=tuple(self.batch.images.shape),
                )  # fmt: skip
            return AS_IT_IS
        return self._of_map(array) or (Fold(((0,), (), tuple(range(1, rank)))) if rank >= 3 else AS_IT_IS)

    def _of_weights(self, array):
        return self._of_map(array) or AS_IT_IS

    def _of_mask(self, array):
        fold = self._of_map(array)
        if fold is None:
            fail(
                "Expected `segmentation_masks` with the size of the inputs.",
                segmentation_masks=tuple(array.shape), images=tuple(self.batch.images.shape),
            )  # fmt: skip
        return fold

    def _of_map(self, array):
        """Returns the fold of an array with one entry per pixel or step, or `None` for other arrays."""
        rank, whole = len(array.shape), len(self.batch.images.shape)
        if rank not in self.folds:
            return None
        axes = self.spatial if rank == whole else range(1, 1 + len(self.spatial))
        pairs = [(static(array, a), static(self.batch.images, b)) for a, b in zip(axes, self.spatial, strict=True)]
        return Fold(self.folds[rank]) if all(a == b or None in (a, b) for a, b in pairs) else None


def specs_of(batch):
    """Replaces images and maps by their specifications. Labels keep their values, so that they can be checked."""

    def spec(array):
        return spec_of(tuple(array.shape), dtype_of(array)) if len(array.shape) > 1 else array

    return each(batch, spec)


def over_frames(values, batch, data_format):
    """Repeats values (..., channels) for all frames, if the image is a video folded into channels."""
    if isinstance(batch.frames, int) and batch.frames == 1:
        return values
    ops, before = batch.ops, [1] * (len(values.shape) - 1)
    if data_format == "channels_last":
        return ops.tile(values, (*before, batch.frames))
    return ops.repeat(values, batch.frames, axis=-1)


def _is_spec(array):
    return isinstance(array, keras.KerasTensor)


def _transposed(array, order, ops):
    return array if order == tuple(range(len(order))) else ops.transpose(array, order)


def _product(sizes):
    return None if any(size is None for size in sizes) else math.prod(sizes)
