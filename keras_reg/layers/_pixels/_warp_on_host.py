"""Resamples images on the host, a few at a time, so that they stay in the cache while their pixels are gathered."""

import numpy as np

from keras_reg._dtypes import at_least_float32, dtype_of
from keras_reg.layers._pixels._in_cache import as_slice
from keras_reg.layers._pixels._moves import Move, Moves, both
from keras_reg.layers._pixels._resampling_on_host import Bilinear, Nearest, Sampled
from keras_reg.layers._pixels._rounding import float32_holds
from keras_reg.layers._pixels._slices import move_by_slices
from keras_reg.layers._pixels._warp import within


def warped_on_host(array, source, fill, fill_mode, smooth, channels_first, place):
    """Returns the images resampled at the positions of `source`. The arguments are those of `warped`."""
    out = np.empty(array.shape, array.dtype)
    made, ops = _by_channel(out, channels_first), place.ops
    sizes = made.shape[2:]
    whole, moves = _whole_moves(source, sizes, ops) if fill_mode == "constant" else (source.is_identity(), Moves())
    move_by_slices(array, out, moves, fill, channels_first, np.flatnonzero(whole).tolist())
    fills = None  # or one for each channel
    if fill_mode == "constant":
        fills = np.broadcast_to(np.asarray(fill, array.dtype), made.shape[1])
    lines = source.along_lines(sizes, ops)
    for kernel, images in _kernels(array, np.flatnonzero(~whole), smooth, place):
        count = kernel.images_at_once(len(images), sizes[0] * sizes[1], place)
        resample = kernel(made[:count], fills, place)
        prepared, ops = resample.prepared(lines), resample.ops
        for start in range(0, len(images), count):
            some = as_slice(images[start : start + count])
            part = prepared.each(lambda entry, some=some: entry[some])
            x, y = part.positions(sizes, ops)
            x, y = within(x, sizes[1], fill_mode, ops), within(y, sizes[0], fill_mode, ops)
            given = _by_channel(array[some], channels_first)
            found = made[some]  # a view of a slice, but a copy of single images
            resample(given, found, part.visible, x, y)
            if not isinstance(some, slice):
                made[some] = found
    return out


def _kernels(array, images, smooth, place):
    """Returns the classes that resample the given images, with the images of each."""
    if not smooth:
        found = [(Nearest, images)]
    elif place.sampler is None or not float32_holds(dtype_of(array)) or array.size == 0:
        found = [(Bilinear, images)]
    else:
        finite = _are_finite(array)[images]
        found = [(Sampled, images[finite]), (Bilinear, images[~finite])]
    return [(kernel, some) for kernel, some in found if len(some)]


def _are_finite(images):
    """Returns which images have only finite pixels, (batch,). Numbers whose sum is infinite do not count as finite."""
    with np.errstate(all="ignore"):
        sums = np.sum(images, axis=tuple(range(1, images.ndim)), dtype=at_least_float32(dtype_of(images)))
    return np.isfinite(sums)


def _whole_moves(warp, size, ops):
    """Returns which images only move whole pixels, bools (batch,), and how they move."""
    (xx, xy, x, yx, yy, y), moves = warp.source, []
    whole = (np.abs(xx) == 1) & (np.abs(yy) == 1) & (xy == 0) & (yx == 0) & (x == np.rint(x)) & (y == np.rint(y))
    if warp.cuts:
        return np.zeros_like(whole), Moves()
    for axis, scale, start in ((0, yy, y), (1, xx, x)):
        flip = scale < 0
        offset = np.where(whole, np.where(flip, size[axis] - 1 - start, start), 0).astype("int64")
        move = Move(flip, offset, warp.visible[axis])
        if warp.kept[axis] is not None:
            seen = move.source_of(warp.kept[axis], size[axis], ops)
            move = move._replace(visible=seen if move.visible is None else both(move.visible, seen, ops))
        moves.append(move)
    return whole, Moves(*moves)


def _by_channel(array, channels_first):
    """Returns a view (batch, channels, height, width): NumPy is fast along rows, and slow along a few channels."""
    if array.ndim == 3:
        return array[:, None]
    return array if channels_first else array.transpose(0, 3, 1, 2)
