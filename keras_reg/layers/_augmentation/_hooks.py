"""Applies the hooks of a subclass to images, labels, masks, pixel weights, boxes and keypoints."""

import dataclasses
from typing import Any, NamedTuple

from keras_reg._dtypes import dtype_of, is_float
from keras_reg._validation import fail
from keras_reg.layers._batch._boxes import check_boxes
from keras_reg.layers._batch._content import leaves
from keras_reg.layers._batch._keypoints import check_keypoints
from keras_reg.layers._batch._moving import check_masks, check_moves, check_no_boxes_within
from keras_reg.layers._batch._shapes import is_map, spec_of, spread
from keras_reg.layers._batch._terms import check_same_size, map_labels, map_pixels

HOOKS = (
    "get_random_transformation", "transform_images", "transform_labels", "transform_segmentation_masks",
    "transform_bounding_boxes", "transform_keypoints", "transform_sample_weights", "compute_image_shape",
)  # fmt: skip

OF_ANY_SIZE = ("transform_labels", "transform_keypoints")  # hooks whose arrays do not have the size of the images


class RandomNumbers(NamedTuple):
    """The random numbers of one batch.

    Attributes:
        uniform: Float32 numbers in [0, 1), of shape (batch, uniform_numbers).
        normal: Float32 numbers from N(0, 1), of shape (batch, normal_numbers); `None` if there are none.
        selected: Whether the layer is applied to each sample, bools of shape (batch,); `None` if it is applied to all.
    """

    uniform: Any
    normal: Any = None
    selected: Any = None


def apply_hooks(layer, batch, transformation, selected):
    """Applies the hooks of `layer` to the batch. Samples that are not `selected` stay unchanged."""

    resizes = layer._overrides("compute_image_shape") and selected is None

    def applied(name, before, transformation=transformation, selected=selected):
        after = getattr(layer, name)(before, transformation, batch)
        return _checked(after, before, selected, name, batch, resizes and name not in OF_ANY_SIZE)

    def by(name):
        return (lambda array: applied(name, array)) if layer._overrides(name) else None

    done = batch
    if layer._overrides("transform_labels"):

        def of_labels(array, changes):
            if not changes or is_map(array, batch.images, layer.data_format):
                return array
            return applied("transform_labels", array, *layer._for_labels(changes, transformation, selected))

        done = map_labels(done, of_labels, layer._changes(batch.labels), shown=layer.changes_labels_of_metrics)
    weights = by("transform_sample_weights") or (by("transform_segmentation_masks") if layer.moves_pixels else None)
    done = map_pixels(done, layer.data_format, None, by("transform_segmentation_masks"), weights)
    if layer._overrides("transform_bounding_boxes") and batch.boxes is not None:
        done = dataclasses.replace(done, boxes=_moved_boxes(layer, batch, transformation, selected))
    if layer._overrides("transform_keypoints") and batch.keypoints is not None:
        done = dataclasses.replace(done, keypoints=applied("transform_keypoints", batch.keypoints))
    if not layer._overrides("transform_images"):
        return done
    images = applied("transform_images", batch.images)
    if resizes:
        promised = spec_of(layer.compute_image_shape(tuple(batch.images.shape)), dtype_of(images))
        check_same_size(promised, images, "`transform_images` must return the shape of `compute_image_shape`.")
    fresh = layer._makes_images and batch.place.is_host and selected is None
    return dataclasses.replace(done, images=images, fresh=fresh)


def _moved_boxes(layer, batch, transformation, selected):
    hook, before = "transform_bounding_boxes", batch.boxes
    after = layer.transform_bounding_boxes(dict(before), transformation, batch)
    if not isinstance(after, dict) or set(after) != set(before):
        found = sorted(map(str, after)) if isinstance(after, dict) else type(after).__name__
        fail(f"`{hook}` must return a dict with the keys {sorted(before)}.", returned=found)
    return {name: _checked(after[name], before[name], selected, hook, batch) for name in before}


def _checked(after, before, selected, name, batch, may_resize=False):
    """Checks the result of a hook and casts it to its input dtype. Samples that are not `selected` stay unchanged."""
    dtype = dtype_of(before)
    if after is before:
        return after
    if not hasattr(after, "shape") or not hasattr(after, "dtype"):
        fail(f"`{name}` must return one array.", returned=type(after).__name__)
    if dtype_of(after) != dtype:
        if not (is_float(after) and is_float(before)):
            fail(f"`{name}` must keep the dtype {dtype}.", dtype=dtype_of(after))
        after = batch.ops.cast(after, dtype)
    kept = "keep the number of samples and axes" if may_resize else "keep the shape"
    check_same_size(before, after, f"`{name}` must {kept} of its input.", end=1 if may_resize else None)
    if selected is None:
        return after
    return batch.ops.where(spread(selected, after, batch.ops), after, before)


def check_hooks_of_class(layer):
    """Refuses a subclass without any hook, and one that overrides hooks of a layer that does not call them."""
    written = [name for name in HOOKS if layer._overrides(name)]
    if layer._calls_hooks and not any(name.startswith("transform_") for name in written):
        fail(
            f"`{type(layer).__name__}` must define a hook, such as `transform_images` or `transform_labels`.",
            methods=[name for name in vars(type(layer)) if not name.startswith("_")],
        )
    if not layer._calls_hooks and written:
        fail(
            f"`{type(layer).__name__}` is a subclass of a layer that does not call hooks. Write a subclass of "
            "`BatchAugmentation`, and put both layers into a `Pipeline`.",
            hooks=written,
        )  # fmt: skip


def check_hooks(layer, batch):
    """Refuses entries that belong to the pixels if the layer moves pixels and has no hook to move the entries."""
    name = type(layer).__name__
    if batch.boxes is not None and layer._overrides("transform_bounding_boxes"):
        check_boxes(batch, getattr(layer, "bounding_box_format", None))
    if batch.keypoints is not None and layer._overrides("transform_keypoints"):
        check_keypoints(batch)
    if not layer._overrides("transform_images"):
        if layer._overrides("transform_labels") and not leaves(batch.labels):
            fail(f"Expected labels, since `{name}` changes them.", labels=None)
        return
    if layer.moves_pixels:
        check_moves(batch, layer.data_format, name)
        _check_all_move(layer, batch, name)
    elif layer._overrides("transform_segmentation_masks"):
        check_masks(batch, layer.data_format)
        check_no_boxes_within(batch.labels, name)


def _check_all_move(layer, batch, name):
    maps = []
    map_pixels(batch, layer.data_format, maps=lambda x: maps.append(x) or x, weights=lambda x: maps.append(x) or x)
    for found, hook, what in (
        (maps, "transform_segmentation_masks", "masks, and label maps and weights of the size of the images"),
        (leaves(batch.boxes), "transform_bounding_boxes", "bounding boxes"),
        (leaves(batch.keypoints), "transform_keypoints", "keypoints"),
    ):
        if found and not layer._overrides(hook):
            define = f"Define `{hook}`, or set `moves_pixels = False` if every pixel stays at its position."
            shapes = [tuple(array.shape) for array in found]
            if layer._cannot_move:
                fail(f"`{name}` cannot move {what}. {layer._cannot_move}", shapes=shapes)
            fail(f"`{name}` does not define how to move {what}. {define}", shapes=shapes)
