"""Kernels for compilers: every pixel is compared with its box, which costs nothing where passes are fused."""

from keras_reg.layers._batch._forms import channels_first
from keras_reg.layers._pixels._gather import shifted
from keras_reg.layers._pixels._rows import Rows


class ForCompilers:
    """The kernels as plain operations on whole arrays, of images, masks or label maps."""

    def __init__(self, place, data_format):
        self.place, self.ops, self.data_format = place, place.ops, data_format

    def mix(self, array, partner, kept=None, box=None, source=None, fresh=False):
        """Each image blended with that of its partner, then cut from it.

        Args:
            array: The images.
            partner: Index of the partner of each, (batch,).
            kept: What an image keeps of itself, (batch,), or `None`.
            box: Where the partner shows: (top, left, height, width), each (batch,), or `None`.
            source: Where the partners are, if not in `array`.
            fresh: Whether `array` may be written to. Here it is not.
        """
        rows = Rows(array, self.place, self.data_format)
        other = self.ops.take(rows.pixels if source is None else rows.join(source), partner, axis=0)
        result = rows.pixels
        if kept is not None:
            result = blended(result, other, rows.of_images(self.ops.cast(kept, array.dtype)), self.ops)
        if box is not None:
            result = self.ops.where(rows.inside(box), other, result)
        return rows.restore(result)

    def fill(self, array, boxes, content, fresh=False):
        """The images with their boxes filled by a content of `_contents`."""
        rows = Rows(array, self.place, self.data_format)
        pixels = rows.pixels
        for region, new in content.over(rows, [rows.inside(box) for box in boxes]):
            pixels = self.ops.where(region, new, pixels)
        return rows.restore(pixels)

    def move(self, array, offsets, fill, reflect=False):
        """The images moved up and to the left by `offsets`, two arrays (batch,), in whole pixels.

        What comes in from outside is `fill`, or the image itself where it is mirrored at its border.
        """
        return shifted(array, offsets, fill, reflect, channels_first(array, self.data_format), self.ops)


def blended(own, other, weight, ops):
    """weight * own + (1 - weight) * other: exact at 0 and 1, where nothing of the other leaks in, NaN included."""
    mixed = weight * own + (1 - weight) * other
    return ops.where(weight >= 1, own, ops.where(weight <= 0, other, mixed))
