"""The possible contents of filled boxes, for both kernels."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_reg._dtypes import dtype_of
from keras_reg._validation import is_number
from keras_reg.layers._batch._fill_values import exact


@dataclasses.dataclass
class Constant:
    """One number, or one number per channel. `over_frames` repeats values (..., channels) for all frames of a video."""

    value: Any
    over_frames: Callable = lambda values: values

    def over(self, rows, regions):
        """Yields a region and its new values for each pass over the pixels of `rows`."""
        ops, dtype = rows.ops, dtype_of(rows.pixels)
        value = exact(self.value, dtype)
        if is_number(value):
            yield union(regions), ops.cast(value, dtype)
        else:
            value = self.over_frames(ops.convert_to_tensor([value], dtype=dtype))
            yield union(regions), rows.of_channels(value)

    def for_host(self, array, channels_first):
        """Returns a function of (image, number of the box, its slices). It returns values that broadcast to the box."""
        value = np.asarray(exact(self.value, dtype_of(array))).astype(array.dtype)
        value = self.over_frames(value) if value.ndim else value
        value = value[:, None, None] if channels_first and value.ndim else value
        return lambda image, box, region: value


@dataclasses.dataclass
class Colors:
    """One color per box: (batch, boxes, channels)."""

    colors: Any

    def over(self, rows, regions):
        (colors,) = rows.place.computed_once(self.colors)
        for i, region in enumerate(regions):
            yield region, rows.ops.cast(rows.of_channels(colors[:, i]), dtype_of(rows.pixels))

    def for_host(self, array, channels_first):
        colors = self.colors.astype(array.dtype)

        def in_box(image, box, region):
            if channels_first:
                return colors[image, box][:, None, None]
            # A whole row of the box: NumPy copies a row at once, but three channels one by one.
            return np.repeat(colors[image, box][None], region[-1].stop - region[-1].start, axis=0)

        return in_box


@dataclasses.dataclass
class Tile:
    """One color per pixel, from a tile twice as high as the images. Each image uses the tile from its own start row.

    The tile has shape (2 * height, width, channels) or (2 * height, channels, width). `starts`, of shape (batch, 1),
    holds the row of the tile for the first row of each image. The other rows follow in order.
    """

    tile: Any
    starts: Any

    def over(self, rows, regions):
        ops = rows.ops
        numbers = self.starts + ops.expand_dims(ops.arange(0, rows.sizes[0], dtype="int32"), 0)
        tile = ops.cast(rows.place.computed_once(self.tile)[0], dtype_of(rows.pixels))
        noise = rows.place.entries(rows.join(tile), numbers)
        yield union(regions), ops.transpose(noise, (0, 2, 1, 3)) if rows.channels_first else noise

    def for_host(self, array, channels_first):
        tile, starts = self.tile.astype(array.dtype), self.starts[:, 0].tolist()
        tile = np.moveaxis(tile, 1, 0) if channels_first else tile

        def in_box(image, box, region):
            *channels, rows, columns = region
            return tile[(*channels, slice(rows.start + starts[image], rows.stop + starts[image]), columns)]

        return in_box


def union(regions):
    """Returns the union of the regions."""
    return functools.reduce(operator.or_, regions)
