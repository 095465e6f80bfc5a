"""What goes into the boxes that RandomErasing erases."""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_reg._validation import is_number
from keras_reg.layers._batch._fill_values import exact
from keras_reg.layers._batch._folding import over_frames
from keras_reg.layers._batch._forms import dtype_of, height_width, is_float
from keras_reg.layers._pixels import _on_host
from keras_reg.layers._pixels._rows import Rows


@dataclasses.dataclass
class Filling:
    """Fills boxes with a constant, one colour a box or a colour a pixel; the arguments are RandomErasing's."""

    mode: str
    value: Any
    value_range: Any
    data_format: str

    @property
    def last(self):
        return self.data_format == "channels_last"

    def draw(self, batch, count, key):
        """Colours (batch, count, channels), or one tile twice as high as the images and (batch, 1) in [0, 1)."""
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
        """N(0, 1), or uniform in `value_range`, with both ends for integers: float32, not yet in the images' dtype."""
        ops = batch.ops
        if self.value_range is None:
            return batch.place.normal(key, shape)
        low, high = self.value_range
        values = batch.place.uniform(key, shape)
        if is_float(batch.images):
            return low + values * (high - low)
        low, high = math.ceil(low), math.floor(high)
        return ops.minimum(low + ops.floor(values * (high - low + 1)), 1.0 * high)

    def fill(self, batch, boxes, noise):
        """The images of the batch with their boxes filled."""
        if self.mode == "channel_noise":
            noise = over_frames(noise, batch, self.data_format)
        if batch.place.is_host:
            return self._fill_on_host(batch, boxes, noise)
        ops, rows = batch.ops, Rows(batch.images, batch, self.data_format)
        pixels, regions = rows.pixels, [rows.inside(box) for box in boxes]
        if self.mode == "channel_noise":
            (noise,) = batch.computed_once(noise)
            for i, region in enumerate(regions):
                colours = rows.of_channels(noise[:, i])
                pixels = ops.where(region, ops.cast(colours, dtype_of(pixels)), pixels)
            return rows.restore(pixels)
        region = regions[0]
        for other in regions[1:]:
            region = region | other
        new = self._constant(rows) if self.mode == "constant" else self._shifted(rows, *noise)
        return rows.restore(ops.where(region, new, pixels))

    def _fill_on_host(self, batch, boxes, noise):
        first = not self.last

        def filled_by(values):
            return _on_host.filled(batch.images, boxes, values, first, batch.fresh, batch.place.copy)

        def as_pixels(values):
            return batch.ops.cast(values, batch.images.dtype)

        if self.mode == "constant":
            constant = as_pixels(exact(self.value, dtype_of(batch.images)))
            constant = over_frames(constant, batch, self.data_format) if constant.ndim else constant
            constant = constant.reshape((-1, 1, 1)) if first else constant
            return filled_by(lambda *_: constant)
        if self.mode == "channel_noise":
            colours = as_pixels(noise)

            def of_colour(i, box, region):
                if first:
                    return colours[i, box][:, None, None]
                # A whole row of the box: NumPy copies rows at once, and three channels one by one.
                return np.repeat(colours[i, box][None], region[-1].stop - region[-1].start, axis=0)

            return filled_by(of_colour)
        tile, starts = as_pixels(noise[0]), self._starts(batch, noise[1])[:, 0].tolist()
        tile = np.moveaxis(tile, 1, 0) if first else tile

        def of_tile(i, box, region):
            *channels, rows, columns = region
            return tile[(*channels, slice(rows.start + starts[i], rows.stop + starts[i]), columns)]

        return filled_by(of_tile)

    def _constant(self, rows):
        ops, dtype = rows.ops, dtype_of(rows.pixels)
        value = exact(self.value, dtype)
        if is_number(value):
            return ops.cast(value, dtype)
        value = ops.convert_to_tensor([value], dtype=dtype)
        return rows.of_channels(over_frames(value, rows.batch, self.data_format))

    def _starts(self, batch, shifts):
        """The row of the tile that the first row of each image takes, (batch, 1); the others follow in order."""
        ops = batch.ops
        height, _ = height_width(batch.images, self.data_format, ops)
        shifts = ops.cast(ops.floor(shifts * ops.cast(height + 1, "float32")), "int32")
        return batch.computed_once(ops.minimum(shifts, height))[0]

    def _shifted(self, rows, tile, shifts):
        ops, batch = rows.ops, rows.batch
        height, _ = height_width(batch.images, self.data_format, ops)
        numbers = self._starts(batch, shifts) + ops.expand_dims(ops.arange(0, height, dtype="int32"), 0)
        noise = ops.take(rows.join(ops.cast(batch.computed_once(tile)[0], dtype_of(rows.pixels))), numbers, axis=0)
        return noise if self.last else ops.transpose(noise, (0, 2, 1, 3))
