"""Resamples images on the host, one by one, so that an image stays in the cache while its pixels are gathered."""

import numpy as np

from keras_reg.layers._batch._forms import at_least_float32, dtype_of
from keras_reg.layers._pixels._affine import Affine
from keras_reg.layers._pixels._warp import BEYOND, as_pixels, float32_holds, within


def warped_on_host(array, source, fill, fill_mode, smooth, channels_first, ops):
    """Returns the images resampled at the positions of `source`. The arguments are those of `warped`."""
    out = np.empty(array.shape, array.dtype)
    given, made = (_by_channel(x, channels_first) for x in (array, out))
    sizes = given.shape[2:]
    resample = _bilinear if smooth else _nearest
    for i, (matrix, stays) in enumerate(zip(zip(*source, strict=True), source.is_identity(), strict=True)):
        if stays:
            out[i] = array[i]
            continue
        positions = Affine(*(np.reshape(entry, 1) for entry in matrix)).positions(sizes, ops)
        x, y = (within(p[0], n, fill_mode, ops) for p, n in zip(positions, sizes[::-1], strict=True))
        resample(given[i], made[i], x, y, fill if fill_mode == "constant" else None, ops)
    return out


def _by_channel(array, channels_first):
    """Returns a view (batch, channels, height, width): NumPy is fast along rows, and slow along a few channels."""
    if array.ndim == 3:
        return array[:, None]
    return array if channels_first else array.transpose(0, 3, 1, 2)


def _nearest(image, out, x, y, fill, ops):
    row, column = (np.rint(position).astype("int32") for position in (y, x))
    height, width = image.shape[1:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = np.clip(row, 0, height - 1).astype("intp") * width + np.clip(column, 0, width - 1)
    for plane, made in zip(image, out, strict=True):
        found = np.take(np.ascontiguousarray(plane), index, mode="clip")
        made[...] = found if fill is None else np.where(inside, found, np.asarray(fill, image.dtype))


def _bilinear(image, out, x, y, fill, ops):
    """Interpolates between four pixels. A border of the fill replaces the comparison of positions with the image."""
    dtype = dtype_of(image)
    wide = at_least_float32(dtype)
    before, after = (0, 1) if fill is None else (BEYOND, BEYOND + 1)
    height, width = image.shape[1:]
    padded = np.full((height + before + after, width + before + after), fill or 0, wide)
    flat, stride = padded.reshape(-1), padded.shape[1]
    left, top = np.floor(x), np.floor(y)
    across, down = (x - left).astype(wide), (y - top).astype(wide)
    index = (top.astype("intp") + before) * stride + (left.astype("intp") + before)
    for plane, made in zip(image, out, strict=True):
        padded[before : before + height, before : before + width] = plane
        corners = [np.take(flat[start:], index) for start in (0, 1, stride, stride + 1)]
        above, below = _between(*corners[:2], across), _between(*corners[2:], across)
        made[...] = as_pixels(_between(above, below, down), dtype, ops)
    if not float32_holds(dtype):
        exact, whole = np.empty(out.shape, out.dtype), (across == 0) & (down == 0)
        _nearest(image, exact, x, y, fill, ops)
        np.copyto(out, exact, where=whole)


def _between(first, second, share):
    """Returns first + share * (second - first), computed in place. Where the share is 0, `second` may be NaN."""
    with np.errstate(all="ignore"):  # the user's pixels may include NaN
        second -= first
        second *= share
    return np.add(first, second, out=first, where=True if share.all() else share > 0)
