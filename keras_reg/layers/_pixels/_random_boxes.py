import dataclasses

from keras_reg._validation import usable_ratio
from keras_reg.layers._batch._shapes import height_width


@dataclasses.dataclass
class RandomBoxes:
    """Boxes of random area, aspect ratio and position in each image. The arguments are those of `RandomErasing`.

    A box is (top, left, height, width) in whole pixels, each an array (batch,). It lies inside the image. Its height is
    0 if nothing is erased.
    """

    scale: tuple
    ratio: tuple
    least: int  # the fewest boxes per image
    most: int

    @property
    def uniform_numbers(self):
        """The number of uniform numbers per image: one for the count, one for the area, and three for each box."""
        return 2 + 3 * self.most

    def largest_area(self, height, width, minimum=min):
        """Returns the largest total area, in pixels, at which boxes with an aspect ratio in `ratio` fit the image."""
        ratio = usable_ratio(self.ratio)
        fits = minimum(ratio[1] * height * height, width * width / ratio[0])
        return minimum(height * width, self.least * fits)

    def draw(self, batch, u, chosen, data_format):
        """Draws the boxes of the images that are `chosen`, from uniform numbers (batch, uniform_numbers)."""
        ops = batch.ops
        size = tuple(ops.cast(n, "float32") for n in height_width(batch.images, data_format, ops))
        number = ops.minimum(self.least + ops.floor(u[:, 0] * (self.most - self.least + 1)), 1.0 * self.most)
        area = self._draw_area(u[:, 1], size, batch) / number
        boxes = []
        for i in range(self.most):
            exists = chosen if i < self.least else chosen & (number > i)
            shape, top, left = (u[:, 2 + 3 * i + k] for k in range(3))
            sides = (area, ops.ones_like(area))  # an interval
            if not batch.is_signal:
                sides = self._draw_sides(shape, area, size, ops)
            boxes.append(batch.computed_once(*_placed((top, left), sides, exists, size, ops)))
        return boxes

    def _draw_area(self, u, size, batch):
        """Draws the total area of the boxes of an image, uniform in the part of `scale` that fits."""
        ops, (height, width) = batch.ops, size
        limit = self.scale[1] * height * width
        if not batch.is_signal:
            limit = ops.minimum(self.largest_area(height, width, ops.minimum), limit)
        first = ops.minimum(self.scale[0] * height * width, limit)
        return first + u * (limit - first)

    def _draw_sides(self, u, area, size, ops):
        """Draws height and width of a box of this area.

        log(width / height) is uniform in the part of `ratio` that fits.
        """
        ratio, (height, width) = usable_ratio(self.ratio), size
        low = ops.log(ops.maximum(ratio[0], area / (height * height)))
        high = ops.log(ops.minimum(ratio[1], width * width / ops.maximum(area, 1e-6)))
        log_aspect = low + u * ops.maximum(high - low, 0.0)
        return ops.sqrt(area * ops.exp(-log_aspect)), ops.sqrt(area * ops.exp(log_aspect))


def _placed(corner, sides, exists, size, ops):
    """Returns a box with these sides in whole pixels, at a uniform position inside the image."""
    sides = [ops.minimum(ops.maximum(ops.round(side), 1.0), n) for side, n in zip(sides, size, strict=True)]
    starts = [
        ops.minimum(ops.floor(u * (n - side + 1)), n - side) for u, side, n in zip(corner, sides, size, strict=True)
    ]
    box = (*starts, ops.where(exists, sides[0], 0.0), sides[1])
    return tuple(ops.cast(x, "int32") for x in box)
