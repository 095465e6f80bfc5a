"""What a layer does to labels or to pixels is done to all of them: each term, what the metrics see, masks, weights."""

import dataclasses

from keras_reg._validation import fail
from keras_reg.layers._batch._forms import (
    arrays_of,
    channels_first,
    dtype_of,
    each,
    is_map,
    map_arrays,
    spec_of,
    spread,
)


def map_labels(batch, function, *others, shown=True):
    """The batch with every array of labels changed; what the metrics see stays the original where not `shown`.

    `others` are nests like the labels, of further arguments of the function.
    """
    terms = [(map_arrays(function, labels, *others), weight) for labels, weight in batch.terms]
    dominant = batch.dominant
    if not shown and batch.keeps_ids and dominant is None:
        dominant = batch.terms[0]
    elif shown and dominant is not None:
        dominant = (map_arrays(function, dominant[0], *others), dominant[1])
    return dataclasses.replace(batch, terms=terms, dominant=dominant)


def map_pixels(batch, data_format, images=None, maps=None, weights=None):
    """The batch with functions applied to its images and to what has one value for each of their pixels.

    `maps` is for masks and for labels that are dense maps, `weights` for sample weights of that form; `None` leaves
    them as they are.
    """

    def of_pixels(function):
        def call(array):
            return function(array) if is_map(array, batch.images, data_format) else array

        return call

    done = batch
    if maps is not None:
        done = map_labels(done, of_pixels(maps))
        done = dataclasses.replace(done, masks=map_arrays(of_pixels(maps), done.masks))
    if weights is not None:
        done = dataclasses.replace(done, sample_weights=map_arrays(of_pixels(weights), done.sample_weights))
    return done if images is None else dataclasses.replace(done, images=images(done.images))


def keep_unselected(done, batch, select):
    """`done` for the images of `select`, `batch` for the others."""
    if select is None:
        return done
    ops, before = batch.ops, iter(arrays_of(batch))

    def choose(new):
        old = next(before)
        check_same_size(old, new)
        return new if new is old else ops.where(spread(select, new, ops), new, ops.cast(old, dtype_of(new)))

    return dataclasses.replace(each(done, choose), fresh=False)


def check_same_size(before, after, expected="A layer applied to some images must keep their size.", end=None):
    """Compares every size that is known of both, of the axes in front of `end`."""
    pairs = zip(tuple(before.shape)[:end], tuple(after.shape)[:end], strict=False)
    if len(before.shape) != len(after.shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        fail(expected, before=tuple(before.shape), after=tuple(after.shape))


def resized_spec(batch, images, data_format):
    """The specification of a batch whose images become `images`, and whose maps take their height and width."""
    axes = (-3, -2) if data_format == "channels_last" else (-2, -1)
    sizes = [images.shape[axis] for axis in axes]

    def sized(array):
        start = 2 if channels_first(array, data_format) else 1
        return spec_of((*array.shape[:start], *sizes, *array.shape[start + 2 :]), dtype_of(array))

    return map_pixels(batch, data_format, lambda _: images, sized, sized)
