"""Bounding boxes that follow their images: {"boxes": (batch, n, 4), "classes" or "labels": (batch, n)}."""

import dataclasses

import keras

from keras_reg._validation import fail
from keras_reg.layers._batch._forms import CLASS_KEYS, dtype_of, height_width, spec_of, spread

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh")
SLIVER = 1e-3  # in pixels: rounding may leave this much of a box that is outside the image
PADDING = -1  # the class and the coordinates of a row without a box


def check_boxes(batch, cuts=False, layer=""):
    """Checks that the boxes are a valid dict. A mixer that `cuts` refuses boxes."""
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
    for name, value in boxes.items():
        if name != "boxes" and len(value.shape) != len(shape) - 1:
            fail(f'Expected "{name}" of shape (batch, n).', shape=tuple(value.shape))


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


def crop_boxes(batch, top, left, scale_down, scale_across, size, box_format, data_format, still=None):
    """Moves boxes along with a crop: shifts, scales and clips them, and drops those of which nothing is left.

    A point (x, y) in pixels moves to ((x - left) * scale_across, (y - top) * scale_down); all four are (batch,). The
    boxes of images that are `still`, (batch,), are not changed.
    """
    top, left, scale_down, scale_across = (batch.ops.expand_dims(x, -1) for x in (top, left, scale_down, scale_across))

    def cropped(x1, y1, x2, y2):
        x1, x2 = ((x - left) * scale_across for x in (x1, x2))
        y1, y2 = ((y - top) * scale_down for y in (y1, y2))
        return x1, y1, x2, y2

    return moved_boxes(batch, cropped, size, box_format, data_format, still)


def moved_boxes(batch, move, size, box_format, data_format, still=None):
    """Moves and clips the boxes, and drops those of which nothing is left.

    `move` is a function from corners (left, top, right, bottom) in pixels, each (batch, n), to the new corners. `size`
    is the new height and width. The boxes of images that are `still`, (batch,), are not changed.
    """
    ops = batch.ops
    new_height, new_width = (ops.cast(n, "float32") for n in size)
    old_height, old_width = (ops.cast(n, "float32") for n in height_width(batch.images, data_format, ops))
    boxes, classes = batch.boxes["boxes"], batch.boxes[class_key(batch.boxes)]
    x1, y1, x2, y2 = move(*to_pixel_corners(boxes, box_format, old_height, old_width, ops))
    x1, x2 = (ops.clip(x, 0.0, new_width) for x in (x1, x2))
    y1, y2 = (ops.clip(y, 0.0, new_height) for y in (y1, y2))
    moved = from_pixel_corners((x1, y1, x2, y2), box_format, new_height, new_width, boxes.dtype, ops)
    gone = (x2 - x1 < SLIVER) | (y2 - y1 < SLIVER) | (classes == PADDING)
    found = drop({**batch.boxes, "boxes": moved}, gone, ops)
    if still is not None:  # the original values, without rounding
        found = {name: ops.where(spread(still, array, ops), batch.boxes[name], array) for name, array in found.items()}
    return dataclasses.replace(batch, boxes=found)


def drop_erased(batch, erased, box_format, data_format):
    """Drops the boxes that lie completely inside the erased box (top, left, height, width)."""
    ops = batch.ops
    height, width = (ops.cast(n, "float32") for n in height_width(batch.images, data_format, ops))
    x1, y1, x2, y2 = to_pixel_corners(batch.boxes["boxes"], box_format, height, width, ops)
    top, left, high, wide = (ops.expand_dims(ops.cast(x, "float32"), -1) for x in erased)
    gone = (x1 >= left) & (y1 >= top) & (x2 <= left + wide) & (y2 <= top + high) & (x2 > x1) & (y2 > y1)
    return dataclasses.replace(batch, boxes=drop(batch.boxes, gone, ops))
