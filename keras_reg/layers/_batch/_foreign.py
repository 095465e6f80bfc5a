"""Applies Keras layers to a whole batch: masks, weights and boxes move with the pixels."""

import dataclasses

import keras

from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._boxes import PADDING, class_key, drop
from keras_reg.layers._batch._content import leaves, map_arrays
from keras_reg.layers._batch._folding import Folding
from keras_reg.layers._batch._foreign_masks import warn_of_masks_elsewhere
from keras_reg.layers._batch._terms import map_pixels

# Keras image layers that do not move pixels. All others that support masks are assumed to move pixels.
_STILL = (
    "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization", "RandomBrightness",
    "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomErasing", "RandomGaussianBlur",
    "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPosterization", "RandomSaturation", "RandomSharpness",
    "Solarization",
)  # fmt: skip
STILL = tuple(getattr(keras.layers, name) for name in _STILL if hasattr(keras.layers, name))


def moves(layer, training=True):
    """Whether a Keras layer moves pixels, and thus masks and boxes.

    In inference, `RandomCrop` does not change images, but it changes masks and reports the cropped shape.
    """
    still = STILL if training else (*STILL, keras.layers.RandomCrop)
    return hasattr(layer, "transform_segmentation_masks") and not isinstance(layer, still)


# Those that compute with the channels of a pixel. They get the frames of a video as rows.
_OF_COLORS = ("RandomColorDegeneration", "RandomColorJitter", "RandomGrayscale", "RandomHue", "RandomSaturation")
OF_COLORS = tuple(getattr(keras.layers, name) for name in _OF_COLORS if hasattr(keras.layers, name))


def is_image_layer(layer):
    """Whether a layer is a Keras image layer, which supports masks and boxes."""
    return isinstance(layer, keras.layers.Layer) and hasattr(layer, "transform_images") and not hasattr(layer, "kinds")


def foreign_folding(layer, batch):
    """Returns the `Folding` with which a Keras image layer draws once per clip, or `None` for other input."""
    if batch.kind not in ("video", "signal") or not is_image_layer(layer):
        return None
    if batch.kind == "signal":
        fail(f"`{layer.name}` accepts images and videos.", kind=batch.kind)
    if getattr(keras.layers, type(layer).__name__, None) is not type(layer):
        fail("Expected images: only Keras' own image layers are known to treat all frames of a video alike.",
             kind="video", layer=layer.name)  # fmt: skip
    return Folding(batch, layer.data_format, "rows" if isinstance(layer, OF_COLORS) else "channels")


def apply_foreign(layer, batch, training):
    """Applies a Keras layer to images and, if it moves pixels, to masks, label maps, pixel weights and boxes."""
    if not hasattr(batch.images, "shape"):
        fail(f"`{layer.name}` accepts one input.", inputs=len(leaves(batch.images)))
    folding = foreign_folding(layer, batch)
    if folding is None:
        return _apply_to_images(layer, batch, training)
    return folding.unfold(_apply_to_images(layer, folding.fold(), training))


def _apply_to_images(layer, batch, training):
    if not moves(layer, training):
        images = _of_pixels(layer(batch.images, training=training), batch)
        return dataclasses.replace(batch, images=images, fresh=False)
    maps, weights = [], []
    map_pixels(batch, layer.data_format, maps=into(maps), weights=into(weights))
    if maps or weights:
        warn_of_masks_elsewhere(layer, batch.place)
    stack = _Stack([*maps, *weights], layer, batch.ops)
    data = {"images": batch.images, **stack.masks(marked=bool(weights))}
    if batch.boxes is not None:
        key = class_key(batch.boxes)
        data["bounding_boxes"] = {"boxes": batch.boxes["boxes"], "labels": batch.boxes[key]}
    moved = layer(data, training=training) if len(data) > 1 else {"images": layer(batch.images, training=training)}
    moved = {name: map_arrays(lambda array: batch.place.from_keras(array), value) for name, value in moved.items()}
    found, inside = stack.taken_apart(moved.get("segmentation_masks"))
    done = map_pixels(
        batch,
        layer.data_format,
        images=lambda _: _of_pixels(moved["images"], batch),
        maps=lambda _: next(found),
        weights=lambda _: inside(next(found)),
    )
    if batch.boxes is not None:
        found = {**batch.boxes, "boxes": moved["bounding_boxes"]["boxes"], key: moved["bounding_boxes"]["labels"]}
        done = dataclasses.replace(done, boxes=drop(found, found[key] == PADDING, batch.ops))
    return dataclasses.replace(done, fresh=False)


def _of_pixels(images, batch):
    """Casts the images that a Keras layer returned to the dtype of the composite layer."""
    return batch.ops.cast(batch.place.from_keras(images), batch.dtype)


def into(found):
    def keep(array):
        found.append(array)
        return array

    return keep


class _Stack:
    """Stacks maps as channels of one mask, since a Keras layer moves only one mask with the images.

    Pixels from outside the image must get weight 0. If the layer fills with another number, an additional channel marks
    these pixels: inside the image, it is that number plus 1.
    """

    def __init__(self, arrays, layer, ops):
        self.arrays, self.ops = arrays, ops
        self.axis = -1 if layer.data_format == "channels_last" else 1
        self.fill = getattr(layer, "fill_value", 0) or 0
        self.marked = False

    def masks(self, marked):
        """Returns the mask for the layer, if there is one. `marked` tells whether the maps include weights."""
        if not self.arrays:
            return {}
        self.marked = marked and self.fill != 0
        stacked = [self._with_channels(array) for array in self.arrays]
        if len(stacked) > 1 or self.marked:
            stacked = [self.ops.cast(array, "float32") for array in stacked]
        if self.marked:
            stacked.append(self.ops.ones_like(self._channels(stacked[0], 0, 1)) * (self.fill + 1.0))
        return {"segmentation_masks": stacked[0] if len(stacked) == 1 else self.ops.concatenate(stacked, self.axis)}

    def _with_channels(self, array):
        return self.ops.expand_dims(array, self.axis) if len(array.shape) == 3 else array

    def _channels(self, array, start, end):
        return array[..., start:end] if self.axis == -1 else array[:, start:end]

    def taken_apart(self, moved):
        """Returns an iterator over the moved maps, and a function that sets weights from outside the image to 0."""
        ops, found, start = self.ops, [], 0
        for array in self.arrays:
            lifted = len(array.shape) == 3
            end = start + (1 if lifted else array.shape[self.axis])
            part = self._channels(moved, start, end)
            found.append(ops.cast(ops.squeeze(part, self.axis) if lifted else part, dtype_of(array)))
            start = end

        def inside(weights):
            if not self.marked:
                return weights
            within = self._channels(moved, start, start + 1) > self.fill + 0.5
            within = ops.squeeze(within, self.axis) if len(weights.shape) == 3 else within
            return ops.where(within, weights, ops.zeros_like(weights))

        return iter(found), inside
