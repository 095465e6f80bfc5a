"""The plan of MixUp and CutMix: the shares of each sample and its partner, and checks of the labels to mix."""

import dataclasses
from typing import Any

import numpy as np

from keras_reg._backend import is_concrete
from keras_reg._dtypes import dtype_of, is_float, is_int
from keras_reg._validation import fail
from keras_reg.layers._batch._content import leaves
from keras_reg.layers._batch._moving import check_masks, check_no_boxes_within, check_no_smaller_map
from keras_reg.layers._batch._shapes import height_width, is_map, one_number_each, spec_of, static

COLUMNS = 5  # chosen or not, lambda, shift of the partner, top and left of the box
SHIFT = 2  # the column of the shift, which uses the number in the first row


@dataclasses.dataclass
class Mix:
    """The plan for mixing one batch. Every array has shape (batch,).

    `partner` is the index of the partner. `blend` is the weight of the image itself in a blend, and `weight` is the
    weight of its label. `box` is (top, left, height, width) in whole pixels, with height 0 if nothing is cut. `blend`
    is `None` if no image of the batch can be blended, and `box` is `None` if no image can be cut.
    """

    partner: Any
    weight: Any
    blend: Any = None
    box: tuple | list | None = None


def partners(u, size, ops):
    """Returns the index of each sample's partner. All are shifted cyclically by the same number, never by 0."""
    size = ops.cast(size, "int32") if not isinstance(size, int) else size
    count = ops.cast(size - 1, "float32")
    shift = ops.minimum(1 + ops.cast(ops.floor(u * count), "int32"), size - 1)
    return ops.mod(ops.arange(0, size, dtype="int32") + shift, size)


def draw_box(kept, u_top, u_left, height, width, ops, is_signal=False):
    """Draws a box with the area share 1 - kept and the aspect ratio of the image, at a uniform position inside it.

    In a signal, an image of width 1, the box is an interval with this share of the length.
    """
    high, wide = (ops.cast(size, "float32") for size in (height, width))
    side = 1.0 - kept if is_signal else ops.sqrt(1.0 - kept)
    box_height = ops.round(high * side)
    box_width = ops.ones_like(box_height) if is_signal else ops.round(wide * side)
    top = ops.minimum(ops.floor(u_top * (high - box_height + 1.0)), high - box_height)
    left = ops.minimum(ops.floor(u_left * (wide - box_width + 1.0)), wide - box_width)
    return tuple(ops.cast(x, "int32") for x in (top, left, box_height, box_width))


def share_kept(box, height, width, ops):
    """Returns the exact share of the pixels outside the box, (batch,) float32."""
    area = ops.cast(height, "int32") * ops.cast(width, "int32")
    return ops.cast(area - box[2] * box[3], "float32") / ops.cast(area, "float32")


def make_plan(batch, u, chosen, kept, cut, data_format, size=None):
    """Returns the plan of a batch, computed from its uniform numbers.

    `chosen` tells which images are mixed, and `kept` is their lambda. `cut` tells whether images are cut instead of
    blended: `True`, `False`, or an array (batch,) with one value per image. `size` is the height and width of what is
    cut, or `None` for those of the images.
    """
    ops, count = batch.ops, batch.size()
    kept = ops.where(chosen & (count > 1), kept, 1.0)
    # A slice, since an empty batch has no first row.
    partner, kept = batch.computed_once(partners(u[:1, SHIFT], count, ops), kept)
    if cut is False:
        return Mix(partner, weight=kept, blend=kept)
    height, width = size or height_width(batch.images, data_format, ops)
    inside = kept if cut is True else ops.where(cut, kept, 1.0)
    box = draw_box(inside, u[:, 3], u[:, 4], height, width, ops, batch.is_signal)
    share, *box = batch.computed_once(share_kept(box, height, width, ops), *box)
    if cut is True:
        return Mix(partner, weight=share, box=box)
    weight, blend = batch.computed_once(ops.where(cut, share, kept), ops.where(cut, 1.0, kept))
    return Mix(partner, weight, blend, box)


def one_hot(labels, num_classes, ops):
    """Converts class ids (batch,) or (batch, 1) to float32 (batch, num_classes). Ids out of range give rows of NaN.

    With `num_classes=1`, the labels 0 and 1 of a single logit keep their values.
    """
    if dtype_of(labels) == "bool" or len(labels.shape) > 2 or (len(labels.shape) == 2 and static(labels, 1) != 1):
        return ops.cast(labels, "float32")
    ids = ops.reshape(labels, [-1])
    hot = hot_rows(ids, num_classes, ops)
    return ops.where(ops.expand_dims(in_range(ids, num_classes), -1), hot, np.float32("nan"))


def in_range(ids, num_classes):
    """Returns which ids are classes. Ids are compared in their own dtype, since a cast could turn them into classes."""
    most = np.iinfo(dtype_of(ids)).max
    count = 2 if is_one_logit(num_classes) else num_classes
    return (ids >= 0) & (ids < count) if count <= most else ids >= 0


def is_one_logit(num_classes):
    """Whether labels are 0 and 1 for a single logit: one number represents both classes."""
    return isinstance(num_classes, int) and num_classes == 1


def hot_rows(ids, num_classes, ops):
    """Converts integers (...) to one-hot float32 (..., num_classes).

    Ids out of range become zeros. `ops.one_hot` may not support them.
    """
    first, last = (1, 2) if is_one_logit(num_classes) else (0, num_classes)
    classes = ops.arange(first, last, dtype="int32")
    ids = ops.where(in_range(ids, num_classes), ops.cast(ids, "int32"), -1)
    return ops.cast(ops.equal(ops.expand_dims(ids, -1), classes), "float32")


def one_hot_map(array, num_classes, data_format, ops):
    """Converts a map of ids to one-hot. Ids out of range, such as 255 for "void", become rows of zeros."""
    last = data_format == "channels_last"
    if len(array.shape) == 4:
        array = ops.squeeze(array, -1 if last else 1)
    array = ops.cast(array, "int32") if dtype_of(array) == "bool" else array
    hot = hot_rows(array, num_classes, ops)
    return hot if last else ops.transpose(hot, (0, 3, 1, 2))


def check_inputs(batch, layer):
    """Refuses inputs that may be ids, since they cannot be blended."""
    for array in leaves(batch.images):
        rank = len(array.shape)
        if rank < 2:
            fail(
                "Expected `images`, or other inputs, of shape (batch, features), or with more axes.",
                shape=tuple(array.shape),
            )
        if is_int(array) and (rank < 3 or (rank == 3 and dtype_of(array) != "uint8")):
            fail(
                f"`{layer}` blends inputs. Integers of shape (batch, time) are treated as token ids, which cannot be "
                "blended: mix their embeddings (`mix_at` of `RegularizedModel`), or cast numeric features to floats.",
                dtype=dtype_of(array), shape=tuple(array.shape),
            )  # fmt: skip


def check_labels(batch, num_classes, blends, data_format, layer):
    """Checks the labels of a mixer: integer labels need `num_classes`, and maps need the size of the images."""
    labels = leaves(batch.labels)
    for array in labels:
        # Of several labels, floats may be those of another output.
        classes = None if len(labels) > 1 and is_float(array) else num_classes
        _check_label(array, batch, classes, blends, data_format, layer)
    check_masks(batch, data_format)
    check_no_boxes_within(batch.labels, layer)
    for array in leaves(batch.masks):
        if blends and not is_float(array):
            _check_integer_map(array, batch, num_classes, "segmentation_masks", data_format, layer)
    if batch.others:
        fail(
            f"`{layer}` mixes all data of a sample and does not know how to mix these entries.", keys=list(batch.others)
        )


def _check_label(array, batch, num_classes, blends, data_format, layer):
    rank, dtype = len(array.shape), dtype_of(array)
    if is_map(array, batch.images, data_format):
        if blends and not batch.keeps_ids and not is_float(array):
            _check_integer_map(array, batch, num_classes, "labels", data_format, layer)
        return
    if one_number_each(array) and num_classes not in (None, 1) and is_float(array):
        fail(
            f"Expected integer class ids, or labels of shape (batch, {num_classes}). With one logit (0 or 1) use "
            "`num_classes=1` or `None`.",
            dtype=dtype, shape=tuple(array.shape),
        )  # fmt: skip
    if not blends:
        check_no_smaller_map(array, batch, data_format, layer)
    if rank >= 4 and not blends:
        fail("Expected dense labels with the height and width of the images.", shape=tuple(array.shape))
    if is_float(array) or dtype == "bool" or batch.keeps_ids:
        if num_classes is not None and is_float(array) and rank == 2 and static(array, 1) not in (None, 1, num_classes):
            fail(f"Expected labels of shape (batch, {num_classes}).", shape=tuple(array.shape))
        return
    if num_classes is None:
        fail(
            f"`{layer}` needs `num_classes` to mix integer labels, which become one-hot. "
            "Labels that are already one-hot should be floats.",
            num_classes=None, dtype=dtype, shape=tuple(array.shape),
        )  # fmt: skip
    if rank > 2 or (rank == 2 and static(array, 1) not in (1, num_classes)):
        fail(
            f"Expected integer labels of shape (batch,), (batch, 1) or (batch, {num_classes}).",
            shape=tuple(array.shape),
        )
    if one_number_each(array) and is_concrete(array):
        check_ids(array, num_classes)


def check_ids(array, num_classes):
    """Checks that class ids are in range. Their values must be readable."""
    ids = np.asarray(array)
    top = max(num_classes - 1, 1)  # a single logit represents two classes
    if ids.size and not 0 <= ids.min() <= ids.max() <= top:
        fail(f"Expected labels from 0 to {top}.", least=int(ids.min()), most=int(ids.max()))


def _check_integer_map(array, batch, num_classes, name, data_format, layer):
    if batch.is_signal and len(array.shape) == 3:  # (batch, time) before it was folded; classes need an axis
        fail(f"Expected integer `{name}` of shape (batch, time, 1).", shape=tuple(array.shape[:2]))
    axis = -1 if data_format == "channels_last" else 1
    if len(array.shape) == 4 and static(array, axis) != 1:
        fail(f"Expected integer `{name}` with one channel, or none.", shape=tuple(array.shape))
    if num_classes is None:
        fail(f"`{layer}` needs `num_classes` to blend integer `{name}`.", num_classes=None, dtype=dtype_of(array))


def label_spec(array, batch, num_classes, blends, data_format):
    """Returns the specification of one label array after `mix`."""
    if is_map(array, batch.images, data_format):
        return mask_spec(array, num_classes, blends, data_format)
    if is_float(array):
        return array
    if is_int(array) and one_number_each(array):
        return spec_of((array.shape[0], num_classes), "float32")
    return spec_of(array.shape, "float32")


def mask_spec(array, num_classes, blends, data_format):
    """Returns the specification of one mask or dense map after `mix`."""
    if is_float(array) or not blends:
        return array
    last = data_format == "channels_last"
    sizes = array.shape[1:3] if last or len(array.shape) == 3 else array.shape[2:4]
    shape = (*sizes, num_classes) if last else (num_classes, *sizes)
    return spec_of((array.shape[0], *shape), "float32")
