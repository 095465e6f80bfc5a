"""Resamples images along one affine map per image, by gathering pixels."""

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg.layers._pixels._gather import dtype_of_numbers
from keras_reg.layers._pixels._rounding import as_pixels, float32_holds

BEYOND = 2  # pixels beyond the border up to which positions are distinguished if all pixels there are equal
OUTSIDE = -float(BEYOND)  # a position of which nothing in the image is seen


def warped(array, source, fill, fill_mode, smooth, channels_first, place):
    """Returns the images resampled at the positions of `source`.

    Args:
        array: The images.
        source: The map from the pixels of the result to positions in the images.
        fill: The value of pixels from outside the image, for the `fill_mode` "constant".
        fill_mode: "constant", "reflect" or "nearest".
        smooth: Whether to interpolate bilinearly. Otherwise, the nearest pixel is taken.
        channels_first: Whether the channels are the second axis.
        place: The `Place` where the images live.
    """
    ops = place.ops
    pixels = ops.transpose(array, (0, 2, 3, 1)) if channels_first else array
    fill = ops.cast(fill, dtype_of(array)) if fill_mode == "constant" else None
    corners = _Corners(pixels, source.visible, fill, place)
    sizes = ops.shape(pixels)[1:3]
    x, y = source.along_lines(sizes, ops).positions(sizes, ops)
    x, y = (within(position, size, fill_mode, ops) for position, size in zip((x, y), sizes[::-1], strict=True))
    found = _bilinear(corners, x, y, ops) if smooth else corners.at(*(ops.cast(ops.round(p), "int32") for p in (y, x)))
    return ops.transpose(found, (0, 3, 1, 2)) if channels_first else found


def within(position, size, fill_mode, ops):
    """Returns the positions in the image that show the same pixels, since the image is extended as `fill_mode` says.

    For "constant", positions outside are kept, but at most two pixels from the border.
    """
    last = size - 1.0 if isinstance(size, int) else ops.cast(size, "float32") - 1.0
    if fill_mode == "constant":
        return ops.clip(position, OUTSIDE, last + BEYOND)
    if fill_mode == "reflect":  # without repeating the border
        period = 2.0 * last
        position = position - period * ops.floor(
            position / (max(period, 1.0) if isinstance(size, int) else ops.maximum(period, 1.0))
        )
        position = ops.minimum(position, period - position)
    return ops.maximum(ops.minimum(position, last), 0.0)


class _Corners:
    """Pixels (batch, height, width) or (batch, height, width, channels), looked up by rows and columns."""

    def __init__(self, pixels, visible, fill, place):
        self.visible, self.fill, self.place, self.ops = visible, fill, place, place.ops
        ops = place.ops
        self.shape = ops.shape(pixels)
        count, self.height, self.width = self.shape[:3]
        # The size is explicit, since JAX cannot infer -1 if there are no channels.
        self.flat = ops.reshape(pixels, (count * self.height * self.width, *self.shape[3:]))
        self.dtype = dtype_of_numbers(self.shape[:3], place)
        self.starts = ops.reshape(ops.arange(0, count, dtype=self.dtype) * (self.height * self.width), [-1, 1, 1])

    def at(self, rows, columns):
        """Returns the pixels at rows and columns (batch, height, width), or the fill outside the image."""
        ops = self.ops
        row, column = (
            ops.minimum(ops.maximum(index, 0), size - 1) for index, size in ((rows, self.height), (columns, self.width))
        )
        index = self.starts + ops.cast(row * self.width + column, self.dtype)
        found = self.place.entries(self.flat, index)
        found = ops.reshape(found, self.shape)  # for an empty batch, JAX ignores the shape of the index
        if self.fill is None:
            return found
        inside = (row == rows) & (column == columns)
        for index, pixels in zip((rows, columns), self.visible, strict=True):
            if pixels is not None:
                first, end = (ops.reshape(edge, [-1, 1, 1]) for edge in pixels)
                inside = inside & (index >= first) & (index < end)
        return ops.where(self.spread(inside), found, self.fill)

    def spread(self, values):
        """Adds an axis of channels to values (batch, height, width), if the pixels have one."""
        return values if len(self.shape) == 3 else self.ops.expand_dims(values, -1)


def _bilinear(corners, x, y, ops):
    """Interpolates between the four pixels around each position. At whole positions, it is exact, beside NaN too."""
    dtype = dtype_of(corners.flat)
    wide = at_least_float32(dtype)
    left, top = ops.floor(x), ops.floor(y)
    across, down = (corners.spread(ops.cast(share, wide)) for share in (x - left, y - top))
    left, top = ops.cast(left, "int32"), ops.cast(top, "int32")
    columns, rows = (left, left + 1), (top, top + 1)

    def corner(below, beside):
        return ops.cast(corners.at(rows[below], columns[beside]), wide)

    found = as_pixels(between_corners(corner, across, down, ops), dtype, ops)
    return found if float32_holds(dtype) else ops.where((across == 0) & (down == 0), corners.at(top, left), found)


def between_corners(corner, across, down, ops):
    """Interpolates between four pixels. Where a share is 0, the pixels beyond may be NaN.

    Args:
        corner: A function that returns the pixels at (below, beside), each 0 or 1.
        across: The share of the pixels beside.
        down: The share of the pixels below.
        ops: The operations.
    """
    is_beside = across > 0

    def row(below):
        first, second = corner(below, 0), corner(below, 1)
        return ops.where(is_beside, first + across * (second - first), first)

    above, below = row(0), row(1)
    return ops.where(down > 0, above + down * (below - above), above)


def shown(visible, size, ops):
    """Returns which pixels of the images are visible, bools that broadcast to (batch, height, width). `None` is all."""
    found = None
    for axis, pixels in enumerate(visible):
        if pixels is not None:
            first, end = (ops.expand_dims(edge, 1) for edge in pixels)
            index = ops.expand_dims(ops.arange(0, size[axis], dtype="int32"), 0)
            inside = ops.expand_dims((index >= first) & (index < end), 2 - axis)
            found = inside if found is None else found & inside
    return found
