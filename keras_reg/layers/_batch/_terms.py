"""Applies functions to all labels, including those of the metrics, or to all arrays with one value per pixel."""

import dataclasses

from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import arrays_of, each, map_arrays
from keras_reg.layers._batch._shapes import channels_first, is_map, spec_of, spread


def map_labels(batch, function, *others, shown=True):
    """Applies a function to every array of labels. If not `shown`, the metrics keep the original labels.

    `others` are nests like the labels that hold further arguments of the function.
    """
    terms = [(map_arrays(function, labels, *others), weight) for labels, weight in batch.terms]
    dominant = batch.dominant
    if not shown and batch.keeps_ids and dominant is None:
        dominant = batch.terms[0]
    elif shown and dominant is not None:
        dominant = (map_arrays(function, dominant[0], *others), dominant[1])
    return dataclasses.replace(batch, terms=terms, dominant=dominant)


def map_pixels(batch, data_format, images=None, maps=None, weights=None):
    """Applies functions to the images and to all arrays with one value per pixel.

    `maps` is applied to masks and dense label maps, `weights` to sample weights per pixel. With `None`, the arrays are
    not changed.
    """

    def of_pixels(function):
        def call(array):
            return function(array) if is_map(array, batch.images, data_format) else array

        return call

    done = batch
    if maps is not None:
        done = map_labels(done, of_pixels(maps))
        if done.masks is not None:
            done = dataclasses.replace(done, masks=map_arrays(of_pixels(maps), done.masks))
    if weights is not None and done.sample_weights is not None:
        done = dataclasses.replace(done, sample_weights=map_arrays(of_pixels(weights), done.sample_weights))
    return done if images is None else dataclasses.replace(done, images=images(done.images))


def keep_unselected(done, batch, select):
    """Returns `done` for the selected images and `batch` for the others."""
    if select is None:
        return done
    ops, before = batch.ops, iter(arrays_of(batch))

    def choose(new):
        old = next(before)
        check_same_size(old, new)
        return new if new is old else ops.where(spread(select, new, ops), new, ops.cast(old, dtype_of(new)))

    return dataclasses.replace(each(done, choose), fresh=False)


def check_same_size(before, after, expected="A layer applied to some images must keep their size.", end=None):
    """Checks that all known sizes of the axes before `end` are equal."""
    pairs = zip(tuple(before.shape)[:end], tuple(after.shape)[:end], strict=False)
    if len(before.shape) != len(after.shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        fail(expected, before=tuple(before.shape), after=tuple(after.shape))


def resized_spec(batch, images, data_format):
    """Returns the specification of the batch with new `images`. Maps get the new height and width too."""
    axes = (-3, -2) if data_format == "channels_last" else (-2, -1)
    sizes = [images.shape[axis] for axis in axes]

    def sized(array):
        start = 2 if channels_first(array, data_format) else 1
        return spec_of((*array.shape[:start], *sizes, *array.shape[start + 2 :]), dtype_of(array))

    return map_pixels(batch, data_format, lambda _: images, sized, sized)
