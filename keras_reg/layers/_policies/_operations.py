"""The operations of the policies on images, as in torchvision. Each of them treats every image separately."""

import dataclasses
from typing import Any

from keras_reg._backend import Place
from keras_reg._dtypes import at_least_float32
from keras_reg.layers._batch._fill_values import exact
from keras_reg.layers._batch._shapes import spatial_axes, spread, static
from keras_reg.layers._pixels._affine import Affine
from keras_reg.layers._pixels._colors import channel_axis, gray
from keras_reg.layers._pixels._kernels import kernels_for
from keras_reg.layers._pixels._rounding import as_pixels
from keras_reg.layers._pixels._tables import equalized, extremes, stretched
from keras_reg.layers._policies._magnitudes import BLENDING, MOVING

LEVELS = 255.999  # the factor from [0, 1] to the 256 levels of a histogram
BRANCHES = ("moved", *BLENDING, "posterize", "solarize", "auto_contrast", "equalize", "invert")
COSTLY = ("sharpness", "auto_contrast", "equalize")  # more than one pass over the pixels


def branch_of(name):
    """Returns the name of the branch of an operation."""
    return "moved" if name in MOVING else name


def are_whole(dtype, value_range):
    """Whether pixels are whole numbers from 0 to 255."""
    return "int" in dtype and tuple(value_range or (0, 255)) == (0, 255)


@dataclasses.dataclass
class Operations:
    """The operations, for `Place.switch`: functions of images (n, ...), strengths (n,) and entries of an `Affine`.

    They compute with values from 0 to `most`: whole numbers up to 255 for integer images, and floats up to 1 otherwise.
    As in Pillow and torchvision, results are rounded down to whole numbers.
    """

    place: Place
    data_format: str
    value_range: Any
    fill_value: float
    smooth: bool
    dtype: str
    frames: Any = 1

    def branches(self, names):
        """Returns the functions of these branches."""
        return [self._branch(name) for name in names]

    def _branch(self, name):
        """Returns one function. For those that compute with the channels of a pixel, a video is one large image."""
        function = getattr(self, f"_{name}")
        if (isinstance(self.frames, int) and self.frames == 1) or name in ("moved", "sharpness"):
            return function

        def of_all_frames(images, *arguments):
            shape = self.ops.shape(images)
            return self.ops.reshape(function(self._side_by_side(images, shape), *arguments), shape)

        return of_all_frames

    def _side_by_side(self, images, shape):
        """Places the frames, which are channels, beside or below one another. Numbers keep their order in memory."""
        frames = self.frames
        if self.data_format == "channels_last":
            count, height, width, channels = shape
            return self.ops.reshape(images, (count, height, width * frames, channels // frames))
        count, channels, height, width = shape
        return self.ops.reshape(images, (count, channels // frames, frames * height, width))

    @property
    def ops(self):
        return self.place.ops

    @property
    def whole(self):
        return are_whole(self.dtype, self.value_range)

    @property
    def is_unit(self):
        """Whether pixels are in [0, 1] already."""
        return tuple(map(float, self.value_range or (0, 255))) == (0.0, 1.0)

    @property
    def most(self):
        return 255.0 if self.whole else 1.0

    def _values(self, images):
        """Returns the images as float values."""
        values = self.ops.cast(images, at_least_float32(self.dtype))
        if self.whole or self.is_unit:
            return values
        low, high = map(float, self.value_range)
        return (values - low) / (high - low)

    def _of_each(self, numbers, images):
        """Returns numbers (batch,) in the dtype of the values, with axes to broadcast over the images."""
        return spread(self.ops.cast(numbers, at_least_float32(self.dtype)), images, self.ops)

    def _pixels(self, values):
        """Returns values that are in range as images."""
        if self.whole:
            return self.ops.cast(self.ops.floor(values), self.dtype)
        if not self.is_unit:
            low, high = map(float, self.value_range)
            values = low + values * (high - low)
        return as_pixels(values, self.dtype, self.ops)

    def _levels(self, values):
        """Returns values as integers from 0 to 255, int32. NaN is 0."""
        ops = self.ops
        levels = values if self.whole else ops.floor(values * LEVELS)
        return ops.cast(ops.where(levels > 0, ops.minimum(levels, 255.0), 0.0), "int32")

    def _clipped(self, values):
        return self._pixels(self.ops.clip(values, 0.0, self.most))

    def _moved(self, images, _, *affine):
        kernels, fill = kernels_for(self, self.data_format), exact(self.fill_value, self.dtype)
        return kernels.warp(images, Affine(*affine), fill, "constant", self.smooth)

    # Blends with another image.

    def _blended(self, values, other, weight):
        """Returns the image for a weight of 1, and `other` for 0."""
        return self._clipped(other + self._of_each(weight, values) * (values - other))

    def _gray(self, values):
        """Returns the brightness of the pixels."""
        axis = channel_axis(self.data_format)
        if static(values, axis) == 1:
            return values
        found = gray(values, axis)
        return self.ops.round(found) if self.whole else found

    def _brightness(self, images, weight, *_):
        return self._clipped(self._of_each(weight, images) * self._values(images))

    def _color(self, images, weight, *_):
        values = self._values(images)
        return self._blended(values, self._gray(values), weight)

    def _contrast(self, images, weight, *_):
        values = self._values(images)
        mean = self.ops.mean(self._gray(values), axis=spatial_axes(self.data_format), keepdims=True)
        return self._blended(values, self.ops.floor(mean + 0.5) if self.whole else mean, weight)

    def _sharpness(self, images, weight, *_):
        return kernels_for(self, self.data_format).sharpen(images, weight, self.value_range or (0, 255))

    # New values for values.

    def _posterize(self, images, unit, *_):
        """`unit` is the distance of the levels that remain of 256."""
        # Images that take another branch may have a unit of 0, with which their gradients would be NaN.
        values, unit = self._values(images), self.ops.maximum(self._of_each(unit, images), 1.0)
        if self.whole:
            # Not at a whole quotient: TensorFlow may replace the division by a product with an inexact reciprocal.
            return self._pixels(self.ops.floor((values + 0.5) / unit) * unit)
        count = self.ops.floor(256.0 / unit + 0.5)
        kept = self.ops.minimum(self.ops.maximum(self.ops.floor(values * count), 0.0), count - 1.0)
        return self._pixels(kept / count)

    def _solarize(self, images, threshold, *_):
        values = self._values(images)
        inverted = self._clipped(self.most - values)
        return self.ops.where(values >= self._of_each(threshold, values), inverted, images)

    def _invert(self, images, *_):
        return self._clipped(self.most - self._values(images))

    def _auto_contrast(self, images, *_):
        """Stretches each channel, so that its values start at 0 and end at `most`, if it has two values."""
        ops, values, axes = self.ops, self._values(images), spatial_axes(self.data_format)
        if self.whole:
            return ops.cast(stretched(self._levels(values), axes, self.place), self.dtype)
        least, last = extremes(values, axes, self.place)
        flat = last == least
        scale = ops.where(flat, 1.0, last - least)
        return ops.where(flat, images, self._clipped((values - least) / scale))

    def _equalize(self, images, *_):
        values = self._values(images)
        found = equalized(self._levels(values), spatial_axes(self.data_format), self.place)
        pixels = self._pixels(self.ops.cast(found, at_least_float32(self.dtype)) * (self.most / 255.0))
        return pixels if self.whole else self.ops.where(values == values, pixels, images)  # NaN stays NaN
