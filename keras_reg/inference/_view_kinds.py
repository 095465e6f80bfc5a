"""What each kind of views does with a batch of images, and with the outputs for it."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_reg._dtypes import is_float
from keras_reg._typing import Config
from keras_reg._validation import fail
from keras_reg.layers import BatchAugmentation, Pipeline
from keras_reg.layers._composite import moves_pixels

FLIPS = {"horizontal": (1,), "vertical": (0,), "horizontal_and_vertical": (1, 0)}


class Views:
    """Views of a batch of images.

    Attributes:
        moves_back: Whether outputs with positions can be moved back.
    """

    moves_back = False

    def of(self, images, axes):
        """Returns a list of views. `axes` are those of the height and of the width."""
        raise NotImplementedError

    def spec(self, images, axes):
        """Returns the specification of the first view, given that of the images."""
        return images

    def back(self, maps, axes):
        """Returns the outputs for each view, moved back to the positions of the images."""
        return maps

    def get_config(self) -> Config:
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: Config) -> Any:
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})


@keras.saving.register_keras_serializable(package="keras_reg")
@dataclasses.dataclass(frozen=True)
class Flips(Views):
    mode: str
    moves_back = True

    def _flipped(self, axes):
        """Returns the axes along which each view is mirrored."""
        found = [()]
        for axis in FLIPS[self.mode]:
            found += [(*others, axes[axis]) for others in found]
        return found

    def of(self, images, axes):
        return [_flip(images, flipped) for flipped in self._flipped(axes)]

    def back(self, maps, axes):
        return [_flip(one, flipped) for one, flipped in zip(maps, self._flipped(axes), strict=True)]


@keras.saving.register_keras_serializable(package="keras_reg")
@dataclasses.dataclass(frozen=True)
class Crops(Views):
    size: Any
    mirrored: bool

    def of(self, images, axes):
        mirror = [ops.flip(images, axes[1])] if self.mirrored else []
        return [crop for each in (images, *mirror) for crop in self._crops(each, axes)]

    def spec(self, images, axes):
        for axis, side in zip(axes, sides(self.size), strict=True):
            _check_fits(images.shape, axis, side)
        return _with_size(images, axes, sides(self.size))

    def _crops(self, images, axes):
        size = sides(self.size)
        tops, lefts = ([0, _margin(images, axis, side)] for axis, side in zip(axes, size, strict=True))
        corners = [(top, left) for top in tops for left in lefts]
        return [_cut(images, axes, corner, size) for corner in (*corners, (_half(tops[1]), _half(lefts[1])))]


@keras.saving.register_keras_serializable(package="keras_reg")
@dataclasses.dataclass(frozen=True)
class Scales(Views):
    sizes: Any
    views: Any = None

    def of(self, images, axes):
        data_format = "channels_last" if axes == (1, 2) else "channels_first"
        images = images if is_float(images) else ops.cast(images, keras.backend.floatx())
        scaled = [
            ops.image.resize(images, _scaled(images, axes, size), antialias=True, data_format=data_format)
            for size in self.sizes
        ]
        return [view for each in scaled for view in ([each] if self.views is None else self.views.of(each, axes))]

    def spec(self, images, axes):
        dtype = images.dtype if is_float(images) else keras.backend.floatx()
        first = _with_size(images, axes, _scaled(images, axes, self.sizes[0]), dtype)
        return first if self.views is None else self.views.spec(first, axes)

    def get_config(self):
        return {**super().get_config(), "views": keras.saving.serialize_keras_object(self.views)}


class RandomViews(Views):
    """Draws of a layer."""

    def __init__(self, layer, samples):
        self.layer, self.samples = layer if isinstance(layer, BatchAugmentation) else Pipeline([layer]), samples
        self.moves_back = not moves_pixels(self.layer)

    def of(self, images, axes):
        return [self.layer(images, training=True) for _ in range(self.samples)]

    def spec(self, images, axes):
        return self.layer(images, training=True)


def sides(size):
    """Returns (height, width) of a size that is an integer or a pair."""
    return tuple(size) if isinstance(size, (list, tuple)) else (size, size)


def _flip(images, axes):
    for axis in axes:
        images = ops.flip(images, axis)
    return images


def _margin(images, axis, side):
    """Returns by how much an axis is longer than a crop."""
    _check_fits(images.shape, axis, side)
    return ops.shape(images)[axis] - side


def _check_fits(shape, axis, side):
    if isinstance(shape[axis], int) and shape[axis] < side:
        fail("Crops must not be larger than the images.", size=side, shape=tuple(shape))


def _with_size(images, axes, size, dtype=None):
    """Returns a specification of images of another size."""
    shape = list(images.shape)
    for axis, side in zip(axes, size, strict=True):
        shape[axis] = side
    return keras.KerasTensor(shape, dtype or images.dtype)


def _half(margin):
    """Returns half of a margin, rounded half to even."""
    if isinstance(margin, int):
        return round(margin / 2)
    return ops.cast(ops.round(ops.cast(margin, "float32") / 2), "int32")


def _cut(images, axes, corner, size):
    starts, shape = [0] * 4, list(ops.shape(images))
    for axis, start, side in zip(axes, corner, size, strict=True):
        starts[axis], shape[axis] = start, side
    if all(isinstance(start, int) for start in starts):
        return images[tuple(slice(start, start + side) for start, side in zip(starts, shape, strict=True))]
    return ops.slice(images, starts, shape)  # refuses images that are too small, which are not known before


def _scaled(images, axes, size):
    """Returns (height, width) of resized images."""
    if isinstance(size, (list, tuple)):
        return tuple(size)
    given = [images.shape[axis] for axis in axes]
    if None in given:
        fail("`sizes` must be pairs (height, width) if the size of the images is not known.", sizes=size)
    return tuple(max(1, round(side * size / min(given))) for side in given)
