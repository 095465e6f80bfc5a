"""Checks of layers that move pixels: data with positions in the images that cannot be moved are refused."""

import keras

from keras_reg._dtypes import is_int
from keras_reg._validation import fail
from keras_reg.layers._batch._content import is_boxes, leaves
from keras_reg.layers._batch._shapes import is_map, spatial_axes, spec_of, static

POINTS = ("box", "keypoint", "landmark", "polygon")  # parts of names of entries with positions in an image
COORDINATES = (2, 3, 4)  # the numbers of a point, of a point with its visibility, and of a box


def check_moves(batch, data_format, layer):
    """Checks that a layer that moves pixels can move all entries with positions in the images."""
    shapes = {name: _shapes(value) for name, value in batch.others.items()}
    left = [name for name, found in shapes.items() if _has_a_place(name, found, batch, data_format)]
    if left:
        fail(
            f"`{layer}` moves pixels and cannot move these entries with them. It moves `segmentation_masks`, "
            "`bounding_boxes`, `keypoints`, and `labels` and `sample_weights` of the size of the images. Remove other "
            "entries.",
            keys=left,
        )  # fmt: skip
    check_masks(batch, data_format)
    check_no_boxes_within(batch.labels, layer)
    check_no_points_within(batch.labels, layer)
    for array in leaves(batch.labels):
        check_no_smaller_map(array, batch, data_format, layer)
    for name, least in (("labels", 4), ("sample_weights", 3)):
        for array in leaves(getattr(batch, name)):
            if len(array.shape) >= least and not is_map(array, batch.images, data_format):
                expected = f"`{layer}` moves pixels: expected `{name}` with the height and width of the images."
                fail(expected, shape=tuple(array.shape))


def check_no_smaller_map(array, batch, data_format, layer):
    """Refuses integer labels that are a map with fewer pixels than the images, such as those of a strided network."""
    if len(array.shape) != 3 or not is_int(array) or len(getattr(batch.images, "shape", ())) != 4:
        return
    sides = [static(batch.images, axis) for axis in spatial_axes(data_format)]
    found = [static(array, axis) for axis in (1, 2)]
    if None in sides + found or min(found) < 2:
        return
    if any([-(-side // factor) for side in sides] == found for factor in range(2, min(sides) + 1)):
        fail(
            f"`{layer}` cannot transform a label map that is smaller than its images. Pass labels with the height and "
            "width of the images, and reduce them afterwards. If these are one-hot labels of several positions, cast "
            "them to float.",
            labels=tuple(array.shape), images=tuple(batch.images.shape),
        )  # fmt: skip


def check_masks(batch, data_format):
    """Checks that masks have the size of the images."""
    for array in leaves(batch.masks):
        if not is_map(array, batch.images, data_format) or len(array.shape) > 4:
            rank = len(getattr(batch.images, "shape", ()))
            others = ' Pass masks of signals and videos as one-hot `labels`, with `kind="signal"` or `kind="video"`.'
            fail(
                f"Expected `segmentation_masks` with the height and width of the images.{'' if rank == 4 else others}",
                shape=tuple(array.shape),
            )


def check_no_boxes_within(labels, layer):
    """Refuses boxes inside nested labels. They must be `bounding_boxes`, or the whole `labels`."""
    if is_boxes(labels):
        fail(
            f"`{layer}` takes bounding boxes as `bounding_boxes` or as all of `labels`, not inside nested labels.",
            labels=sorted(labels),
        )  # fmt: skip
    if isinstance(labels, (dict, list, tuple)):
        for part in labels.values() if isinstance(labels, dict) else labels:
            check_no_boxes_within(part, layer)


def check_no_points_within(labels, layer):
    """Refuses labels with a name and a shape of points or boxes, for example of an output `keypoints` of a model."""
    if not isinstance(labels, dict):
        return
    for name, value in labels.items():
        check_no_points_within(value, layer)
        if _names_points(name) and any(len(shape) >= 2 and shape[-1] in COORDINATES for shape in _shapes(value)):
            fail(
                f"`{layer}` moves pixels and cannot move positions inside `labels`. Pass a dict with `images`, and "
                "`keypoints` (batch, n, 2) or `bounding_boxes` beside `labels`.",
                labels=sorted(map(str, labels)),
            )  # fmt: skip


def _names_points(name):
    return any(part in str(name).lower() for part in POINTS)


def _shapes(value):
    """Returns the shapes of the arrays of an additional entry."""
    return [tuple(array.shape) for array in keras.tree.flatten(value) if hasattr(array, "shape")]


def _has_a_place(name, shapes, batch, data_format):
    """Whether an entry holds pixels, points or boxes, according to its shapes or its name."""
    if _names_points(name) and any(len(shape) >= 2 for shape in shapes):
        return True
    specs = [spec_of(shape, "float32") for shape in shapes if len(shape) >= 3]
    return any(
        len(spec.shape) >= 4 or spec.shape[-1] in COORDINATES or is_map(spec, batch.images, data_format)
        for spec in specs
    )
