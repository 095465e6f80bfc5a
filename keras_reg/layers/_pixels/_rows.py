"""The pixels of a batch in long rows, which compilers process fastest."""

from keras_reg.layers._batch._shapes import channels_first, spread


class Rows:
    """An array of pixels: images, masks or label maps. If channels are last, they are merged with the columns.

    A compiler cannot vectorize well if the innermost axis is three channels. Along whole rows, XLA compares pixels with
    boxes up to four times as fast. Without a compiler, the channels are not merged, and the region of a box has one
    number per pixel instead of one per channel.

    Args:
        array: Array of shape (batch, H, W), or (batch, H, W, C) or (batch, C, H, W), depending on `data_format`.
        place: The `Place` where the array lives.
        data_format: "channels_last" or "channels_first".
    """

    def __init__(self, array, place, data_format):
        self.ops, self.place = place.ops, place
        self.shape = self.ops.shape(array)
        self.channels_first = channels_first(array, data_format)
        self.joined = len(self.shape) == 4 and not self.channels_first and place.fuses
        self.pixels = self.join(array)

    @property
    def sizes(self):
        """The height and width. Arrays of features have none."""
        return self.shape[2:4] if self.channels_first else self.shape[1:3]

    def join(self, array):
        """Merges the last two axes of `array`, columns and channels, if the rows are joined."""
        if not self.joined:
            return array
        *others, columns, channels = self.ops.shape(array)
        return self.ops.reshape(array, (*others, columns * channels))

    def restore(self, pixels):
        return self.ops.reshape(pixels, self.shape) if self.joined else pixels

    def inside(self, box):
        """Returns which pixels lie in the box (top, left, height, width), each (batch,), to broadcast over `pixels`."""
        ops = self.ops
        height, width = self.sizes
        step = self.shape[3] if self.joined else 1
        top, left, tall, wide = (ops.reshape(x, [-1, 1, 1]) for x in box)
        rows = ops.reshape(ops.arange(0, height, dtype="int32"), [1, -1, 1])
        columns = ops.reshape(ops.arange(0, width * step, dtype="int32"), [1, 1, -1])
        left, right = left * step, (left + wide) * step
        beside = (rows >= top) & (rows < top + tall)
        if self.joined:  # bounds per row: two comparisons per pixel instead of four
            left, right = ops.where(beside, left, width * step), ops.where(beside, right, 0)
            return (columns >= left) & (columns < right)
        found = beside & (columns >= left) & (columns < right)
        if len(self.shape) == 4:
            found = ops.expand_dims(found, 1 if self.channels_first else -1)
        return found

    def of_channels(self, values):
        """Reshapes (batch or 1, channels) to broadcast over `pixels`."""
        ops = self.ops
        if not self.joined:
            values = ops.expand_dims(ops.expand_dims(values, 1), 1)
            return ops.transpose(values, (0, 3, 1, 2)) if self.channels_first else values
        return ops.expand_dims(ops.tile(values, (1, self.sizes[1])), 1)

    def of_images(self, values):
        """Reshapes (batch,) to broadcast over `pixels`."""
        return spread(values, self.pixels, self.ops)
