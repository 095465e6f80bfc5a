"""MixUp and CutMix as one operation: what a sample keeps of itself, what it takes from its partner, and the labels."""

import dataclasses
from typing import Any

import numpy as np

from keras_reg._backend import is_concrete
from keras_reg._validation import fail
from keras_reg.layers import _on_host
from keras_reg.layers._batch import (
    channels_first,
    dtype_of,
    height_width,
    is_float,
    is_integer,
    is_map,
    leaves,
    map_arrays,
    one_number_each,
    spec_of,
    spread,
    static,
)
from keras_reg.layers._boxes import concatenate_boxes
from keras_reg.layers._rows import Rows

COLUMNS = 5  # chosen or not, lambda, shift of the partner, top and left of the box


@dataclasses.dataclass
class Mix:
    """How one batch is mixed. Every array has shape (batch,).

    `partner` is an index; `blend` is what an image keeps of itself where it is blended, `weight` what its label keeps;
    `box` is (top, left, height, width) in whole pixels, of height 0 where nothing is cut. `blend` or `box` is `None`
    where no image of the batch can be blended, or cut.
    """

    partner: Any
    weight: Any
    blend: Any = None
    box: tuple | list | None = None


def partners(u, size, ops):
    """The index of each sample's partner: a cyclic shift, the same for all, never by nothing (batch > 1)."""
    size = ops.cast(size, "int32") if not isinstance(size, int) else size
    count = ops.cast(size - 1, "float32")
    shift = ops.minimum(1 + ops.cast(ops.floor(u * count), "int32"), size - 1)
    return ops.mod(ops.arange(0, size, dtype="int32") + shift, size)


def draw_box(kept, u_top, u_left, height, width, ops):
    """A box of area share 1 - kept and of the image's shape, wholly inside, its corner uniform over what is valid."""
    high, wide = (ops.cast(size, "float32") for size in (height, width))
    side = ops.sqrt(1.0 - kept)
    box_height, box_width = ops.round(high * side), ops.round(wide * side)
    top = ops.minimum(ops.floor(u_top * (high - box_height + 1.0)), high - box_height)
    left = ops.minimum(ops.floor(u_left * (wide - box_width + 1.0)), wide - box_width)
    return tuple(ops.cast(x, "int32") for x in (top, left, box_height, box_width))


def share_kept(box, height, width, ops):
    """The exact share of the pixels that stay, (batch,) float32."""
    area = ops.cast(height, "int32") * ops.cast(width, "int32")
    return ops.cast(area - box[2] * box[3], "float32") / ops.cast(area, "float32")


def blended(own, other, weight, ops):
    """weight * own + (1 - weight) * other: exact at 0 and 1, where nothing of the other leaks in, NaN included."""
    mixed = weight * own + (1 - weight) * other
    return ops.where(weight >= 1, own, ops.where(weight <= 0, other, mixed))


def make_plan(batch, u, chosen, kept, cut, data_format):
    """The plan of a batch from its uniform numbers.

    `chosen` says which images are mixed and `kept` is their lambda; `cut` is whether they are cut rather than blended:
    True, False, or an array (batch,) that says it for each.
    """
    ops, size = batch.ops, batch.size()
    kept = ops.where(chosen & (size > 1), kept, 1.0)
    partner, kept = batch.settled(partners(u[:1, 2], size, ops), kept)  # a slice: an empty batch has no first row
    if cut is False:
        return Mix(partner, weight=kept, blend=kept)
    height, width = height_width(batch.images, data_format, ops)
    box = draw_box(kept if cut is True else ops.where(cut, kept, 1.0), u[:, 3], u[:, 4], height, width, ops)
    share, *box = batch.settled(share_kept(box, height, width, ops), *box)
    if cut is True:
        return Mix(partner, weight=share, box=box)
    weight, blend = batch.settled(ops.where(cut, share, kept), ops.where(cut, 1.0, kept))
    return Mix(partner, weight, blend, box)


def mix(batch, plan, num_classes, data_format):
    """The batch with every part of every sample mixed by one plan."""
    ops = batch.ops

    def other(array):
        return ops.take(array, plan.partner, axis=0)

    def combine(array, weight, fresh=False):
        """Pixels: blended, then cut."""
        if batch.framework.on_host:
            first = channels_first(array, data_format)
            return _on_host.mixed(array, plan.partner, weight, plan.box, first, fresh, **batch.framework.passes)
        rows = Rows(array, batch, data_format)
        partner, result = other(rows.pixels), rows.pixels
        if plan.blend is not None:
            result = blended(result, partner, rows.of_images(ops.cast(weight, array.dtype)), ops)
        if plan.box is not None:
            result = ops.where(rows.inside(plan.box), partner, result)
        return rows.restore(result)

    def linear(array):
        """Label-like: in float32 at least, back in the dtype that it came in."""
        dtype = dtype_of(array) if is_float(array) else "float32"
        array = ops.cast(array, at_least_float32(dtype))
        weight = spread(ops.cast(plan.weight, array.dtype), array, ops)
        return ops.cast(blended(array, other(array), weight, ops), dtype)

    def pixels(array):
        if plan.blend is None:
            return combine(array, None)
        if is_float(array):
            dtype = dtype_of(array)
            return ops.cast(combine(ops.cast(array, at_least_float32(dtype)), plan.blend), dtype)
        return combine(_one_hot_map(array, num_classes, data_format, ops), plan.blend)

    def label(array):
        if is_map(array, batch.images, data_format):
            return pixels(array)
        return linear(array if is_float(array) else one_hot(array, num_classes, ops))

    mixed = dataclasses.replace(
        batch,
        images=combine(batch.images, plan.blend, batch.fresh),
        fresh=batch.framework.on_host,
        boxes=None if batch.boxes is None else concatenate_boxes(batch.boxes, plan, ops),
        sample_weights=map_arrays(linear, batch.sample_weights),
        masks=map_arrays(pixels, batch.masks),
    )
    if batch.labels is None:
        return mixed
    if not batch.sparse:
        return dataclasses.replace(mixed, labels=map_arrays(label, batch.labels))
    return _mix_sparse(mixed, batch, plan, label, other, data_format)


def _mix_sparse(mixed, batch, plan, label, other, data_format):
    """In a training step: integers stay integers and become terms, and the dominant label is kept for the metrics."""
    ops, weight = batch.ops, plan.weight
    cuts = plan.box is not None

    def cut(array):
        """A dense map is cut there and then, so both terms of a cut sample hold the same map."""
        rows = Rows(array, batch, data_format)
        return rows.restore(ops.where(rows.inside(plan.box), other(rows.pixels), rows.pixels))

    def cut_map(array):
        return cuts and is_map(array, batch.images, data_format)

    def first(array):
        if is_float(array):
            return label(array)
        return cut(array) if cut_map(array) else array

    def second(array, own):
        if is_float(array) or (cut_map(array) and plan.blend is None):
            return own
        return ops.where(spread(plan.box[2] > 0, array, ops), own, other(array)) if cut_map(array) else other(array)

    def choose(array):
        if cut_map(array):
            keep = (plan.box[2] > 0) | (mine >= theirs)
            return ops.where(spread(keep, array, ops), cut(array), other(array))
        return ops.where(spread(mine >= theirs, array, ops), array, other(array))

    ones = ops.ones_like(weight)
    terms = []
    for labels, share in batch.terms or [(batch.labels, ones)]:
        own = map_arrays(first, labels)
        rest = map_arrays(second, labels, own)
        if all(a is b for a, b in zip(leaves(own), leaves(rest), strict=True)):
            terms.append((own, ones))  # mixed already: one term holds it all
            break
        terms.append((own, share * weight))
        terms.append((rest, other(share) * (1.0 - weight)))
    shown, top = batch.dominant or (batch.labels, ones)
    mine, theirs = top * weight, other(top) * (1.0 - weight)
    dominant = (map_arrays(choose, shown), ops.maximum(mine, theirs))
    return dataclasses.replace(mixed, labels=terms[0][0], terms=terms, dominant=dominant)


def one_hot(labels, num_classes, ops):
    """Class ids (batch,) or (batch, 1) as float32 (batch, num_classes); out of range gives NaN, never a wrong label."""
    if dtype_of(labels) == "bool" or len(labels.shape) > 2 or (len(labels.shape) == 2 and static(labels, 1) != 1):
        return ops.cast(labels, "float32")
    ids = ops.cast(ops.reshape(labels, [-1]), "int32")
    hot = hot_rows(ids, num_classes, ops)
    valid = ops.logical_and(ids >= 0, ids < num_classes)
    return ops.where(ops.expand_dims(valid, -1), hot, np.float32("nan"))


def hot_rows(ids, num_classes, ops):
    """Integers (...) as float32 (..., num_classes): zeros for those out of range, over which `one_hot` may stumble."""
    classes = ops.arange(0, num_classes, dtype="int32")
    return ops.cast(ops.equal(ops.expand_dims(ops.cast(ids, "int32"), -1), classes), "float32")


def at_least_float32(dtype):
    return "float64" if dtype == "float64" else "float32"


def _one_hot_map(array, num_classes, data_format, ops):
    """Ids out of range, as the usual 255 for "void", belong to no class: a row of zeros."""
    last = data_format == "channels_last"
    if len(array.shape) == 4:
        array = ops.squeeze(array, -1 if last else 1)
    hot = hot_rows(array, num_classes, ops)
    return hot if last else ops.transpose(hot, (0, 3, 1, 2))


def check_labels(batch, num_classes, blends, data_format, layer):
    """What a mixer must know before it mixes: integer labels need `num_classes`, maps the size of the images."""
    for array in leaves(batch.labels):
        _check_label(array, batch, num_classes, blends, data_format, layer)
    for array in leaves(batch.masks):
        if not is_map(array, batch.images, data_format) or len(array.shape) > 4:
            fail("Expected `segmentation_masks` of the height and width of the images.", shape=tuple(array.shape))
        if blends and not is_float(array):
            _check_integer_map(array, num_classes, "segmentation_masks", data_format, layer)
    if batch.others:
        fail(f"`{layer}` mixes what belongs to a sample and does not know how to mix these.", keys=list(batch.others))


def _check_label(array, batch, num_classes, blends, data_format, layer):
    rank, dtype = len(array.shape), dtype_of(array)
    if is_map(array, batch.images, data_format):
        if blends and not batch.sparse and not is_float(array):
            _check_integer_map(array, num_classes, "labels", data_format, layer)
        return
    if one_number_each(array) and num_classes is not None and is_float(array):
        shape = tuple(array.shape)
        fail(f"Expected integer class ids, or labels of shape (batch, {num_classes}).", dtype=dtype, shape=shape)
    if rank >= 3 and not blends:
        fail("Expected dense labels of the height and width of the images.", shape=tuple(array.shape))
    if is_float(array) or dtype == "bool" or batch.sparse:
        if num_classes is not None and is_float(array) and rank == 2 and static(array, 1) not in (None, 1, num_classes):
            fail(f"Expected labels of shape (batch, {num_classes}).", shape=tuple(array.shape))
        return
    if num_classes is None:
        fail(
            f"`{layer}` needs `num_classes` to mix integer labels (they come back one-hot); "
            "labels that are one-hot already should be floats.",
            num_classes=None, dtype=dtype, shape=tuple(array.shape),
        )  # fmt: skip
    if rank > 2 or (rank == 2 and static(array, 1) not in (1, num_classes)):
        fail(f"Expected integer labels of shape (batch,), (batch, 1) or (batch, {num_classes}).", shape=array.shape)
    if one_number_each(array) and is_concrete(array):
        check_ids(array, num_classes)


def check_ids(array, num_classes):
    """Class ids that can be read are in range."""
    ids = np.asarray(array)
    if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
        fail(f"Expected labels from 0 to {num_classes - 1}.", least=int(ids.min()), most=int(ids.max()))


def _check_integer_map(array, num_classes, name, data_format, layer):
    axis = -1 if data_format == "channels_last" else 1
    if len(array.shape) == 4 and static(array, axis) != 1:
        fail(f"Expected integer `{name}` with one channel, or none.", shape=tuple(array.shape))
    if num_classes is None:
        fail(f"`{layer}` needs `num_classes` to blend integer `{name}`.", num_classes=None, dtype=dtype_of(array))


def label_spec(array, batch, num_classes, blends, data_format):
    """What `mix` makes of one label array."""
    if is_map(array, batch.images, data_format):
        return mask_spec(array, num_classes, blends, data_format)
    if is_float(array):
        return array
    if is_integer(array) and one_number_each(array):
        return spec_of((array.shape[0], num_classes), "float32")
    return spec_of(array.shape, "float32")


def mask_spec(array, num_classes, blends, data_format):
    """What `mix` makes of one mask or dense map."""
    if is_float(array) or not blends:
        return array
    last = data_format == "channels_last"
    sizes = array.shape[1:3] if last or len(array.shape) == 3 else array.shape[2:4]
    shape = (*sizes, num_classes) if last else (num_classes, *sizes)
    return spec_of((array.shape[0], *shape), "float32")
