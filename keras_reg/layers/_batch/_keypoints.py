"""Keypoints that follow their images: (batch, n, 2) as (x, y) in pixels. The centers of pixels are whole numbers."""

import math

from keras_reg._dtypes import dtype_of, is_float
from keras_reg._validation import fail
from keras_reg.layers._batch._shapes import spread

ABSENT = -1  # both coordinates of a point that is not in the image


def check_keypoints(batch):
    """Checks that the keypoints can be moved."""
    points = batch.keypoints
    shape, dtype = tuple(points.shape), dtype_of(points)
    if len(shape) < 3 or shape[-1] != 2:
        fail("Expected `keypoints` of shape (batch, n, 2), as (x, y) in pixels.", keypoints=shape)
    if dtype == "bool" or dtype.startswith("uint"):
        fail(f"Expected `keypoints` of a dtype that can hold {ABSENT}, which marks absent points.", keypoints=dtype)
    if batch.is_signal:
        fail("`keypoints` are only supported for images and videos.", kind="signal")


def moved_keypoints(points, geometry, size, ops):
    """Moves the points along with their images. `size` is the height and width of the images.

    A point that is outside before or after a step becomes absent. The points of an image that stays do not change.
    """
    shape = ops.shape(points)
    points = ops.reshape(points, (shape[0], math.prod(shape[1:-1]), 2)) if len(shape) > 3 else points
    for step in geometry.steps:
        points = _moved(points, step, size, ops)
        size = step.size_of_result(size)
    return ops.reshape(points, shape) if len(shape) > 3 else points


def _moved(points, step, size, ops):
    x, y = (ops.cast(points[..., axis], "float32") for axis in (0, 1))
    moved = step.move_points(x, y, size, ops)
    inside = _are_inside(x, y, size, ops) & _are_inside(*moved, step.size_of_result(size), ops)
    found = ops.where(ops.expand_dims(inside, -1), ops.stack(moved, axis=-1), float(ABSENT))
    found = ops.cast(found if is_float(points) else ops.round(found), dtype_of(points))
    still = step.is_identity()
    return found if still is None else ops.where(spread(still, points, ops), points, found)


def _are_inside(x, y, size, ops):
    """Whether points lie in the picture, whose edges are half a pixel beyond the centers of its outer pixels."""
    height, width = (ops.cast(n, "float32") - 0.5 for n in size)
    return (x >= -0.5) & (x <= width) & (y >= -0.5) & (y <= height)
