"""Bounding boxes that follow their images: {"boxes": (batch, n, 4), "classes" or "labels": (batch, n)}."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_reg._backend import is_concrete
from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import CLASS_KEYS
from keras_reg.layers._batch._shapes import height_width, spec_of, spread

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh")
FAR_OUTSIDE = 10  # times the size of the image: shares above are pixels
SLIVER = 1e-3  # in pixels: rounding may leave this much of a box that is outside the image
PADDING = -1  # the class and the coordinates of a row without a box


def check_boxes(batch, box_format=None, cuts=False, layer=""):
    """Checks that the boxes are a valid dict, in a format if it matters. A mixer that `cuts` refuses boxes."""
    if cuts:
        fail(
            f"`{layer}` cannot mix bounding boxes: a box that is partly covered has no correct result. Use `MixUp`.",
            bounding_boxes=sorted(batch.boxes) if isinstance(batch.boxes, dict) else type(batch.boxes).__name__,
        )
    boxes = batch.boxes
    if (
        not isinstance(boxes, dict)
        or boxes.get("boxes") is None
        or any(value is None for value in boxes.values())
        or not class_key(boxes)
    ):
        received = sorted(map(str, boxes)) if isinstance(boxes, dict) else type(boxes).__name__
        fail('Expected `bounding_boxes` as a dict of "boxes" and "classes" (or "labels").', bounding_boxes=received)
    shape = boxes["boxes"].shape
    if len(shape) != len(batch.images.shape) - 1 or shape[-1] != 4:
        fail("Expected boxes of shape (batch, n, 4).", shape=tuple(shape))
    for name in ("boxes", class_key(boxes)):
        if dtype_of(boxes[name]) == "bool" or dtype_of(boxes[name]).startswith("uint"):
            fail(
                f'Expected "{name}" of a dtype that can hold {PADDING}, which marks removed boxes.',
                dtype=dtype_of(boxes[name]),
            )
    dtype = dtype_of(boxes["boxes"])
    if box_format and box_format.startswith("rel_") and keras.backend.is_int_dtype(dtype):
        fail("Expected boxes of a floating dtype, since they are shares.", bounding_box_format=box_format, dtype=dtype)
    for name, value in boxes.items():
        known = None not in (*value.shape, *shape)
        if name == "boxes" or (
            tuple(value.shape) == tuple(shape[:-1]) if known else len(value.shape) == len(shape) - 1
        ):
            continue
        fail(f'Expected "{name}" of shape (batch, n).', shape=tuple(value.shape), boxes=tuple(shape))
    if box_format and all(map(is_concrete, (boxes["boxes"], boxes[class_key(boxes)]))):
        _check_values(
            *(np.asarray(ops.convert_to_numpy(boxes[key])) for key in ("boxes", class_key(boxes))), box_format
        )


def _check_values(boxes, classes, box_format):
    """Refuses boxes that show another format. Rows of padding may hold anything."""
    boxes = boxes[classes >= 0].astype("float64")
    if not boxes.size:
        return
    sizes = boxes[:, 2:] if box_format.endswith("xywh") else boxes[:, 2:] - boxes[:, :2]
    if box_format.startswith("rel_") and boxes.max() > FAR_OUTSIDE:
        wrong, looks = boxes.max(-1) > FAR_OUTSIDE, "look like pixels"
    elif (sizes < -SLIVER).any():
        wrong, looks = (sizes < -SLIVER).any(-1), f"are not in the format {box_format!r}: a size is negative"
    else:
        return
    fail(f"These `boxes` {looks}. Pass `bounding_box_format`.", box=boxes[wrong][0].tolist())


def class_key(boxes):
    return next((key for key in CLASS_KEYS if key in boxes), None)


def drop(boxes, gone, ops):
    """Returns the boxes with the ones that are `gone`, (batch, n), replaced by padding."""
    classes = class_key(boxes)
    padded = dict(boxes)
    padded["boxes"] = ops.where(ops.expand_dims(gone, -1), PADDING, boxes["boxes"])
    padded[classes] = ops.where(gone, PADDING, boxes[classes])
    return padded


def concatenate_boxes(boxes, plan, ops):
    """Returns the boxes of both images of a blend. If an image has weight 0, its boxes become padding."""
    own = drop(boxes, ops.broadcast_to(ops.expand_dims(plan.blend <= 0, -1), ops.shape(boxes[class_key(boxes)])), ops)
    other = {key: ops.take(value, plan.partner, axis=0) for key, value in boxes.items()}
    absent = ops.broadcast_to(ops.expand_dims(plan.blend >= 1, -1), ops.shape(boxes[class_key(boxes)]))
    other = drop(other, absent, ops)
    return {key: ops.concatenate([own[key], other[key]], axis=1) for key in boxes}


def spec_of_concatenated(boxes):
    def double(array):
        count = None if array.shape[1] is None else 2 * array.shape[1]
        return spec_of((array.shape[0], count, *array.shape[2:]), array.dtype)

    return keras.tree.map_structure(double, boxes)


def to_pixel_corners(boxes, box_format, height, width, ops):
    """Converts boxes to (left, top, right, bottom) in pixels, each (batch, n), float32."""
    a, b, c, d = (ops.cast(boxes[..., i], "float32") for i in range(4))
    if box_format.endswith("yxyx"):
        a, b, c, d = b, a, d, c
    if box_format.startswith("rel_"):
        a, b, c, d = a * width, b * height, c * width, d * height
    if box_format == "center_xywh":
        a, b = a - c / 2, b - d / 2
    if box_format.endswith("xywh"):
        c, d = a + c, b + d
    return a, b, c, d


def from_pixel_corners(corners, box_format, height, width, dtype, ops):
    """The inverse of `to_pixel_corners`."""
    a, b, c, d = corners
    if box_format.endswith("xywh"):
        c, d = c - a, d - b
    if box_format == "center_xywh":
        a, b = a + c / 2, b + d / 2
    if box_format.startswith("rel_"):
        a, b, c, d = a / width, b / height, c / width, d / height
    if box_format.endswith("yxyx"):
        a, b, c, d = b, a, d, c
    return ops.cast(ops.stack([a, b, c, d], axis=-1), dtype)


def moved_boxes(boxes, geometry, size, box_format, ops):
    """Moves the boxes along with their images and clips them. Boxes of which nothing is left become padding.

    `size` is the height and width of the images. The boxes of images that stay do not change.
    """
    dtype = dtype_of(boxes["boxes"])
    is_integer = keras.backend.is_int_dtype(dtype)
    if is_integer:
        boxes = {**boxes, "boxes": ops.cast(boxes["boxes"], "float32")}
    for step in geometry.steps:
        boxes = _moved(boxes, step, size, box_format, ops)
        size = step.size_of_result(size)
    return _rounded(boxes, box_format, dtype, ops) if is_integer else boxes


def _rounded(boxes, box_format, dtype, ops):
    """Rounds boxes in pixels to integers. Boxes of which nothing is left become padding."""
    corners = to_pixel_corners(boxes["boxes"], box_format, None, None, ops)
    if box_format == "center_xywh":
        places = ops.cast(ops.round(boxes["boxes"]), dtype)
    else:
        places = from_pixel_corners(tuple(map(ops.round, corners)), box_format, None, None, dtype, ops)
    rounded = to_pixel_corners(places, box_format, None, None, ops)
    before, after = ((x2 - x1 >= SLIVER) & (y2 - y1 >= SLIVER) for x1, y1, x2, y2 in (corners, rounded))
    return drop({**boxes, "boxes": places}, before & ~after, ops)


def _moved(boxes, step, size, box_format, ops):
    new_height, new_width = (ops.cast(n, "float32") for n in step.size_of_result(size))
    height, width = (ops.cast(n, "float32") for n in size)
    places, classes = boxes["boxes"], boxes[class_key(boxes)]
    x1, y1, x2, y2 = step.move_corners(*to_pixel_corners(places, box_format, height, width, ops), size, ops)
    x1, x2 = (ops.clip(x, 0.0, new_width) for x in (x1, x2))
    y1, y2 = (ops.clip(y, 0.0, new_height) for y in (y1, y2))
    moved = from_pixel_corners((x1, y1, x2, y2), box_format, new_height, new_width, places.dtype, ops)
    gone = (x2 - x1 < SLIVER) | (y2 - y1 < SLIVER) | (classes == PADDING)
    found, still = drop({**boxes, "boxes": moved}, gone, ops), step.is_identity()
    if still is None:
        return found
    # The original values, without rounding.
    return {name: ops.where(spread(still, array, ops), boxes[name], array) for name, array in found.items()}


def drop_erased(batch, erased, box_format, data_format):
    """Drops the boxes that lie completely inside the erased box (top, left, height, width)."""
    ops = batch.ops
    height, width = (ops.cast(n, "float32") for n in height_width(batch.images, data_format, ops))
    x1, y1, x2, y2 = to_pixel_corners(batch.boxes["boxes"], box_format, height, width, ops)
    top, left, high, wide = (ops.expand_dims(ops.cast(x, "float32"), -1) for x in erased)
    gone = (x1 >= left) & (y1 >= top) & (x2 <= left + wide) & (y2 <= top + high) & (x2 > x1) & (y2 > y1)
    return dataclasses.replace(batch, boxes=drop(batch.boxes, gone, ops))
