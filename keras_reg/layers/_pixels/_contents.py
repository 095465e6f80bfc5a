"""What boxes can be filled with, for both kernels."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_reg._validation import is_number
from keras_reg.layers._batch._fill_values import exact
from keras_reg.layers._batch._forms import dtype_of


@dataclasses.dataclass
class Constant:
    """A number, or one for each channel. `over_frames` repeats values (..., channels) for the frames of a video."""

    value: Any
    over_frames: Callable = lambda values: values

    def over(self, rows, regions):
        """(region, what goes there) for each pass over the pixels of `rows`."""
        ops, dtype = rows.ops, dtype_of(rows.pixels)
        value = exact(self.value, dtype)
        if is_number(value):
            yield union(regions), ops.cast(value, dtype)
        else:
            value = self.over_frames(ops.convert_to_tensor([value], dtype=dtype))
            yield union(regions), rows.of_channels(value)

    def for_host(self, array, channels_first):
        """A function of (image, number of the box, its slices) that returns what goes there, to broadcast."""
        value = np.asarray(exact(self.value, dtype_of(array))).astype(array.dtype)
        value = self.over_frames(value) if value.ndim else value
        value = value[:, None, None] if channels_first and value.ndim else value
        return lambda image, box, region: value


@dataclasses.dataclass
class Colours:
    """One colour per box: (batch, boxes, channels)."""

    colours: Any

    def over(self, rows, regions):
        (colours,) = rows.place.computed_once(self.colours)
        for i, region in enumerate(regions):
            yield region, rows.ops.cast(rows.of_channels(colours[:, i]), dtype_of(rows.pixels))

    def for_host(self, array, channels_first):
        colours = self.colours.astype(array.dtype)

        def in_box(image, box, region):
            if channels_first:
                return colours[image, box][:, None, None]
            # A whole row of the box: NumPy copies rows at once, and three channels one by one.
            return np.repeat(colours[image, box][None], region[-1].stop - region[-1].start, axis=0)

        return in_box


@dataclasses.dataclass
class Tile:
    """One colour per pixel, from a tile twice as high as the images: each image takes it from a row of its own.

    The tile has shape (2 * height, width, channels) or (2 * height, channels, width). `starts` of shape (batch, 1) says
    which of its rows the first row of each image takes; the others follow in order.
    """

    tile: Any
    starts: Any

    def over(self, rows, regions):
        ops = rows.ops
        numbers = self.starts + ops.expand_dims(ops.arange(0, rows.sizes[0], dtype="int32"), 0)
        tile = ops.cast(rows.place.computed_once(self.tile)[0], dtype_of(rows.pixels))
        noise = ops.take(rows.join(tile), numbers, axis=0)
        yield union(regions), ops.transpose(noise, (0, 2, 1, 3)) if rows.channels_first else noise

    def for_host(self, array, channels_first):
        tile, starts = self.tile.astype(array.dtype), self.starts[:, 0].tolist()
        tile = np.moveaxis(tile, 1, 0) if channels_first else tile

        def in_box(image, box, region):
            *channels, rows, columns = region
            return tile[(*channels, slice(rows.start + starts[image], rows.stop + starts[image]), columns)]

        return in_box


def union(regions):
    """Where any of the regions is."""
    return functools.reduce(operator.or_, regions)
