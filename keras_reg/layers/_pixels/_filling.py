"""The contents of the boxes of `RandomErasing`: a constant, or noise, which is drawn here."""

import dataclasses
import math
from typing import Any

import keras

from keras_reg._dtypes import is_float
from keras_reg._validation import fail
from keras_reg.layers._batch._fill_values import check_fill
from keras_reg.layers._batch._folding import over_frames
from keras_reg.layers._batch._shapes import height_width
from keras_reg.layers._pixels._contents import Colors, Constant, Tile


@dataclasses.dataclass
class Filling:
    """A constant, one color per box, or one color per pixel. The arguments are those of `RandomErasing`."""

    mode: str
    value: Any
    value_range: Any
    data_format: str

    @property
    def last(self):
        return self.data_format == "channels_last"

    def check(self, dtype):
        """Refuses a fill that images of `dtype` cannot hold. Noise is drawn in float32 and cast to `dtype`."""
        if self.mode == "constant":
            check_fill("fill", self.value, dtype)
            return
        if self.value_range is None:
            if not keras.backend.is_float_dtype(dtype):
                fail("Noise in integer images needs a `value_range`.", value_range=None, dtype=dtype)
            return
        low, high = self.value_range
        check_fill("value_range", (low, high, high - low), "float32")
        if keras.backend.is_float_dtype(dtype):
            check_fill("value_range", (low, high), dtype)
        elif math.ceil(low) > math.floor(high) or max(-low, high) > 2**24:
            fail(
                "Expected a `value_range` of whole numbers within 2^24 of 0, where float32 is exact.",
                value_range=self.value_range,
            )
        else:
            check_fill("value_range", [math.ceil(low), math.floor(high)], dtype)

    def draw(self, batch, count, key):
        """Draws colors (batch, count, channels), or a tile twice as high as the images and (batch, 1) in [0, 1)."""
        if self.mode == "constant":
            return None
        channels, inner = batch.ops.shape(batch.images)[3 if self.last else 1], batch.place.fold(key, 0)
        if self.mode == "channel_noise":
            return self._noise(inner, (batch.size(), count, channels // batch.frames), batch)
        height, width = height_width(batch.images, self.data_format, batch.ops)
        row = (width, channels) if self.last else (channels, width)
        shifts = batch.place.uniform(batch.place.fold(key, 1), (batch.size(), 1))
        return self._noise(inner, (2 * height, *row), batch), shifts

    def _noise(self, key, shape, batch):
        """Draws float32 noise: N(0, 1), or uniform in `value_range`, which includes both ends for integers."""
        ops = batch.ops
        if self.value_range is None:
            return batch.place.normal(key, shape)
        low, high = self.value_range
        values = batch.place.uniform(key, shape)
        if is_float(batch.images):
            return low + values * (high - low)
        low, high = math.ceil(low), math.floor(high)
        return ops.minimum(low + ops.floor(values * (high - low + 1)), 1.0 * high)

    def content(self, batch, noise):
        """Returns the constant, or the noise from `draw`, as a content for the kernels."""
        if self.mode == "constant":
            return Constant(self.value, lambda values: over_frames(values, batch, self.data_format))
        if self.mode == "channel_noise":
            return Colors(over_frames(noise, batch, self.data_format))
        return Tile(noise[0], self._starts(batch, noise[1]))

    def _starts(self, batch, shifts):
        """Returns the row of the tile for the first row of each image, (batch, 1). The other rows follow in order."""
        ops = batch.ops
        height, _ = height_width(batch.images, self.data_format, ops)
        shifts = ops.cast(ops.floor(shifts * ops.cast(height + 1, "float32")), "int32")
        return batch.computed_once(ops.minimum(shifts, height))[0]
