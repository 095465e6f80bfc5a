"""Geometric steps of images that follow one another, as one map: the pixels are moved or resampled once."""

from typing import Any, NamedTuple

from keras_reg._dtypes import dtype_of
from keras_reg.layers._batch._content import leaves, map_arrays
from keras_reg.layers._pixels._affine import Affine, Lines, lies_between
from keras_reg.layers._pixels._crop import Crop
from keras_reg.layers._pixels._moves import Moves, both
from keras_reg.layers._pixels._warp import OUTSIDE


class Chain(NamedTuple):
    """The map of several steps. Boxes and points follow the steps one by one, as they are clipped after each."""

    steps: tuple
    pixels: Any  # the same map as one `Moves` or `Warp`

    def move_pixels(self, kernels, array, fill, fill_mode, smooth):
        """Returns the images, moved or resampled once."""
        return self.pixels.move_pixels(kernels, array, fill, fill_mode, smooth)


class Warp(NamedTuple):
    """One `Affine` for several steps, and what the steps cut off.

    Attributes:
        source: The map from the pixels of the result to positions in the image.
        visible: Which rows and which columns of the image can be seen: (first, one after the last) or `None` for all.
        kept: Which rows and which columns of the result the last step has not cut off, like `visible`.
        cuts: What steps between the first resampling and the last step cut off, pairs (map, visible). The map leads
            from the pixels of the result to those of which the `visible` rows and columns were kept.
    """

    source: Affine
    visible: tuple = (None, None)
    kept: tuple = (None, None)
    cuts: tuple = ()

    def is_identity(self):
        """Returns which images the map leaves as they are, (batch,). No step may cut off pixels."""
        return self.source.is_identity()

    def along_lines(self, size, ops):
        """Returns the `CutLines` of images of this size."""
        cuts = tuple((through.along_lines(size, ops), visible) for through, visible in self.cuts)
        return CutLines(self.source.along_lines(size, ops, self.kept), self.visible, cuts)

    def move_pixels(self, kernels, array, fill, fill_mode, smooth):
        """Returns the images resampled at the positions of this map."""
        return kernels.warp(array, self, fill, fill_mode, smooth)


class CutLines(NamedTuple):
    """The `Lines` of a `Warp`, with `Lines` in its cuts, too."""

    source: Lines
    visible: tuple
    cuts: tuple

    def each(self, function):
        """Returns the lines with function(array) in the place of each array."""
        return CutLines(*(_each(entry, function) for entry in self))

    def positions(self, size, ops):
        """Returns the source columns and rows of all pixels, each (batch, height, width). Cut off ones are outside."""
        x, y = self.source.positions(size, ops)
        for through, visible in self.cuts:
            places = map(ops.round, through.positions(size, ops))
            for place, pixels in zip(places, visible[::-1], strict=True):
                x = ops.where(lies_between(place, pixels, ops), x, OUTSIDE)
        return x, y


def _each(entry, function):
    """Applies a function to the arrays of a part of `CutLines`, more often than `keras.tree` is fast enough for."""
    if isinstance(entry, Lines):
        return entry.each(function)
    if isinstance(entry, tuple):
        return tuple(_each(inner, function) for inner in entry)
    return function(entry) if getattr(entry, "shape", ()) else entry


def chained(steps, size, ops):
    """Returns one map of the pixels for several steps on images of this size: `Moves`, `Affine`s, or a `Crop`.

    A `Crop` may follow mirror images, and be followed by `Moves`.
    """
    steps = _joined(steps, size, ops)
    if len(steps) == 1:
        return steps[0]
    source, kept, cuts = None, (None, None), []
    for i, step in reversed(list(enumerate(steps))):
        source = step.affine(size, ops) if source is None else step.affine(size, ops).then(source)
        if i == 0:
            visible = _visible_in_image(step, size, ops)
        elif i == len(steps) - 1 and isinstance(step, Moves):
            kept = tuple(move.visible_in_result(n, ops) for move, n in zip(step, size, strict=True))
        elif isinstance(step, Moves) or isinstance(steps[i - 1], Affine):
            seen = zip(_visible_in_image(step, size, ops), size, strict=True)
            cuts.append((source, tuple((0, n) if pixels is None else both(pixels, (0, n), ops) for pixels, n in seen)))
    return Warp(source, visible, kept, tuple(cuts))


def _joined(steps, size, ops):
    """Joins neighbors that are no `Affine`."""
    done = []
    for step in steps:
        if done and not isinstance(step, Affine) and not isinstance(done[-1], Affine):
            before = done.pop()
            step = step.after(before, size, ops) if isinstance(step, Crop) else before.then(step, size, ops)
        done.append(step)
    return done


def _visible_in_image(step, size, ops):
    """Returns which rows and columns of the images are visible after a step, `None` for all."""
    if isinstance(step, Affine):
        return step.visible
    return tuple(move.visible_in_image(n, ops) for move, n in zip(step, size, strict=True))


def computed_once(geometry, batch):
    """Returns the same map, with its arrays computed before the pixels that depend on them."""
    if batch.place.is_host:
        return geometry  # NumPy computes everything once

    def is_per_image(entry):
        return len(getattr(entry, "shape", ())) == 1

    arrays = [entry for entry in leaves(geometry) if is_per_image(entry)]
    if all(dtype_of(array) == "bool" for array in arrays):
        return geometry  # comparisons cost nothing
    done = iter(batch.computed_once(*arrays))
    return map_arrays(lambda entry: next(done) if is_per_image(entry) else entry, geometry)
