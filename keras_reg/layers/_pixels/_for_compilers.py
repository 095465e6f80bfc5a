"""Kernels for compilers: every pixel is compared with its box, which costs nothing if passes are fused."""

from keras_reg._dtypes import dtype_of
from keras_reg.layers._batch._shapes import channels_first, spread
from keras_reg.layers._pixels._blur import blurred
from keras_reg.layers._pixels._bordered import moved_with_border, warped_with_border
from keras_reg.layers._pixels._crop import cropped
from keras_reg.layers._pixels._gather import gathered
from keras_reg.layers._pixels._rows import Rows
from keras_reg.layers._pixels._sharpness import sharpened
from keras_reg.layers._pixels._warp import warped


class ForCompilers:
    """The kernels as plain operations on whole arrays: images, masks or label maps."""

    def __init__(self, place, data_format):
        self.place, self.ops, self.data_format = place, place.ops, data_format

    def mix(self, array, partner, kept=None, box=None, source=None, fresh=False):
        """Blends each image with its partner, and then pastes the box of the partner.

        Args:
            array: The images.
            partner: Index of the partner of each image, (batch,).
            kept: The weight of the image itself, (batch,), or `None` for no blending.
            box: The box that shows the partner: (top, left, height, width), each (batch,), or `None`.
            source: The array that holds the partners. Defaults to `array`.
            fresh: Whether `array` may be overwritten. This kernel ignores it.
        """
        rows = Rows(array, self.place, self.data_format)
        other = self.place.entries(rows.pixels if source is None else rows.join(source), partner)
        result = rows.pixels
        if kept is not None:
            wide, ops = self.place.dtype_of_arithmetic(dtype_of(array)), self.ops
            pair, weight = (ops.cast(x, wide) for x in (result, other)), rows.of_images(ops.cast(kept, wide))
            result = ops.cast(blended(*pair, weight, ops), array.dtype)
        if box is not None:
            result = self.ops.where(rows.inside(box), other, result)
        return rows.restore(result)

    def fill(self, array, boxes, content, fresh=False):
        """Fills the boxes of the images with a content of `_contents`."""
        rows = Rows(array, self.place, self.data_format)
        pixels = rows.pixels
        for region, new in content.over(rows, [rows.inside(box) for box in boxes]):
            pixels = self.ops.where(region, new, pixels)
        return rows.restore(pixels)

    def move(self, array, moves, fill, reflect=False):
        """Mirrors and shifts the images by `Moves`.

        Pixels from outside the image are `fill`. With `reflect`, the image is mirrored at its border instead.
        """
        if moves.shifts:
            is_first = channels_first(array, self.data_format)
            if self.place.starts_slowly and not reflect:
                return moved_with_border(array, moves, fill, is_first, self.place)
            return gathered(array, moves, fill, reflect, is_first, self.place)
        axes = (2, 3) if channels_first(array, self.data_format) else (1, 2)
        for axis, move in zip(axes, moves, strict=True):
            if move.flip is not None:
                array = self.ops.where(spread(move.flip, array, self.ops), self.ops.flip(array, axis), array)
        return array

    def crop(self, array, crop, fill, smooth):
        """Resizes a box of each image, a `Crop`. Pixels from outside the resized crop are `fill`."""
        return cropped(array, crop, fill, smooth, channels_first(array, self.data_format), self.place)

    def warp(self, array, source, fill, fill_mode, smooth):
        """Resamples the images at the positions of `source`, an `Affine` or a `Warp`."""
        warp = warped_with_border if self.place.starts_slowly else warped
        return warp(array, source, fill, fill_mode, smooth, channels_first(array, self.data_format), self.place)

    def sharpen(self, array, factors, value_range):
        """Blends each image with a smoothed one, which has weight 1 - factor. `factors` has shape (batch,)."""
        return sharpened(array, factors, value_range, self.place, self.data_format)

    def blur(self, array, sigmas, weights):
        """Convolves each image with a Gaussian kernel. `sigmas`, (batch,), are its standard deviations in pixels.

        `weights` are its `gaussian_weights`.
        """
        return blurred(array, sigmas, weights, self.place, self.data_format)


def blended(own, other, weight, ops):
    """Returns weight * own + (1 - weight) * other. At 0 and 1 it is exact, even if the unused value is NaN."""
    mixed = weight * own + (1 - weight) * other
    return ops.where(weight >= 1, own, ops.where(weight <= 0, other, mixed))
