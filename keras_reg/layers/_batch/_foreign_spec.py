"""The output specification of a Keras layer, and checks that it can process the whole batch correctly."""

import dataclasses

import keras

from keras_reg._dtypes import dtype_of, is_float
from keras_reg._validation import fail
from keras_reg.layers._batch._boxes import check_boxes
from keras_reg.layers._batch._content import FIELDS, KEYS, leaves
from keras_reg.layers._batch._folding import specs_of
from keras_reg.layers._batch._foreign import foreign_folding, into, moves
from keras_reg.layers._batch._moving import check_moves
from keras_reg.layers._batch._shapes import channels_first, spatial_axes, spec_of, static
from keras_reg.layers._batch._terms import map_pixels


def foreign_spec(layer, batch, dtype, training=True):
    """Returns the specification of the batch after a Keras layer. Raises an error if the layer cannot process it.

    `dtype` is the dtype of the output images.
    """
    if not hasattr(batch.images, "shape"):
        fail(f"`{layer.name}` accepts one input.", inputs=len(leaves(batch.images)))
    folding = foreign_folding(layer, batch)
    if folding is not None:
        folding = foreign_folding(layer, specs_of(batch))
        return folding.unfold(foreign_spec(layer, folding.fold(), dtype, training))
    _check_others(layer, batch, training)
    shape = _shape_behind(layer, tuple(batch.images.shape), training)
    if not moves(layer, training):
        _check_leaves_nothing_behind(layer, batch, shape)
        return dataclasses.replace(batch, images=spec_of(shape, dtype))
    _check_boxes(layer, batch)
    _check_ids_are_not_resized(layer, batch)
    sizes = [shape[axis] for axis in spatial_axes(layer.data_format)]

    def sized(array):
        start = 2 if channels_first(array, layer.data_format) else 1
        return spec_of((*array.shape[:start], *sizes, *array.shape[start + 2 :]), dtype_of(array))

    return map_pixels(batch, layer.data_format, lambda _: spec_of(shape, dtype), sized, sized)


def _shape_behind(layer, shape, training):
    stands = isinstance(layer, keras.layers.RandomCrop) and not moves(layer, training)
    if stands:
        return shape
    try:
        return layer.compute_output_shape(shape)
    except NotImplementedError:  # a layer that only defines `call`
        return layer.compute_output_spec(keras.KerasTensor(shape, layer.compute_dtype)).shape


def _check_others(layer, batch, training):
    shape = tuple(batch.images.shape)
    if moves(layer, training) and (training or _shape_behind(layer, shape, training) != shape):
        check_moves(batch, layer.data_format, layer.name)
        if batch.keypoints is not None:
            fail(
                f"`{layer.name}` moves pixels, but layers of Keras do not move keypoints. Use those of `keras_reg`.",
                keys=["keypoints"],
            )


def _check_boxes(layer, batch):
    if batch.boxes is None:
        return
    box_format = getattr(layer, "bounding_box_format", None)
    check_boxes(batch, box_format)
    if box_format is None:
        fail("Expected a layer with a `bounding_box_format`, which it needs to move boxes.", layer=layer.name)


def _check_ids_are_not_resized(layer, batch):
    """Refuses crops larger than the image: Keras resizes the image then, and would average the ids in masks."""
    if not isinstance(layer, (keras.layers.CenterCrop, keras.layers.RandomCrop)):
        return
    size, axes, maps = (layer.height, layer.width), spatial_axes(layer.data_format), []
    map_pixels(batch, layer.data_format, maps=into(maps))
    small = any((static(batch.images, axis) or n) < n for axis, n in zip(axes, size, strict=True))
    if small and not all(map(is_float, maps)):
        fail(
            f"`{layer.name}` crops to more than the image size, so it would resize masks and average their classes.",
            size=size, images=tuple(batch.images.shape),
        )  # fmt: skip


def _check_leaves_nothing_behind(layer, batch, shape):
    """Refuses a layer without support for masks and boxes if it changes the size of images that have them."""
    layout = getattr(layer, "data_format", None) or keras.config.image_data_format()
    if len(batch.images.shape) != 4:
        if tuple(shape) != tuple(batch.images.shape) and leaves(batch.masks):
            fail(f"`{layer.name}` changes the size of inputs with `segmentation_masks`.", shape=tuple(shape))
        return
    before = [batch.images.shape[axis] for axis in spatial_axes(layout)]
    if len(shape) == 4 and before == [shape[axis] for axis in spatial_axes(layout)]:
        return
    found = []
    map_pixels(batch, layout, maps=into(found), weights=into(found))
    if found or batch.boxes is not None or batch.keypoints is not None:
        names = [name for field, name in zip(FIELDS[1:], KEYS[1:], strict=True) if leaves(getattr(batch, field))]
        fail(
            f"`{layer.name}` changes the size of the images but not of the data that belong to their pixels.",
            given=names,
        )
