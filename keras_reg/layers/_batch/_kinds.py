"""The kind of samples (image, video, signal or any), and whether a call passes a batch or a single sample."""

import dataclasses

import keras
import numpy as np

from keras_reg._backend import is_concrete
from keras_reg._dtypes import dtype_of, is_int
from keras_reg._validation import fail
from keras_reg.layers._batch._content import each, leaves
from keras_reg.layers._batch._shapes import spec_of, static

KINDS = (None, "image", "video", "signal")
RANKS = {"signal": 3, "image": 4, "video": 5}  # of a batch
SHAPES = {
    "signal": "(batch, time, channels)",
    "image": "(batch, height, width, channels)",
    "video": "(batch, time, height, width, channels)",
}
CHANNELS = 4  # the most channels of an image, if nothing else distinguishes an image from a batch
HOW_TO_SAY = (
    "Grayscale images need a channel axis, `images[..., None]`; a single image needs a batch axis, `images[None]`, or "
    '`kind="image"`; signals (batch, time, channels) need `kind="signal"`.'
)


def check_kinds(kinds):
    """Checks the `kinds` of a subclass."""
    if not isinstance(kinds, (tuple, list)) or not kinds or not all(kind in SHAPES for kind in kinds):
        fail(f"`kinds` must be a tuple with any of {tuple(SHAPES)}.", kinds=kinds)


def kind_of(batch, layer, called=True, training=True):
    """Returns the kind of the samples, and whether the batch is a single sample without a batch axis.

    `called` tells whether the layer itself was called: then a single sample is possible. In a training step, there is
    always a batch. The kind is `None` if it does not matter.
    """
    inputs = leaves(batch.images)
    if len(inputs) != 1 and not layer._any_rank:
        fail(f"`{type(layer).__name__}` accepts one array of images.", images=[tuple(x.shape) for x in inputs])
    if any(len(array.shape) == 0 for array in inputs):
        fail("Expected `images`, or other inputs, with a batch axis.", images=[tuple(x.shape) for x in inputs])
    alone = called and (training is False or not layer._mixes)
    given = layer.kind or ("signal" if tuple(layer._all_kinds()) == ("signal",) else None)
    if given is not None and len(inputs) == 1:
        kind, single = _kind_as_given(given, inputs[0], alone)
    elif not layer._any_rank:
        kind, single = _kind_of_images(batch, layer, alone)
    else:
        return None, called and _is_one_of_anything(batch, layer, alone, training)
    if kind not in layer._all_kinds():
        taken = " or ".join(f"{name}s {SHAPES[name]}" for name in layer._all_kinds())
        is_own = not type(layer).__module__.startswith("keras_reg.")
        advice = " Set its attribute `kinds` to the kinds that it can process." if is_own else ""
        fail(f"`{type(layer).__name__}` accepts {taken}.{advice}", kind=kind, shape=tuple(inputs[0].shape))
    return kind, single


def _kind_as_given(kind, array, alone):
    shape = tuple(array.shape)
    if len(shape) == RANKS[kind] - 1 and alone:
        return kind, True
    if len(shape) != RANKS[kind]:
        fail(f'Expected inputs of shape {SHAPES[kind]} for `kind="{kind}"`.', shape=shape)
    return kind, False


def _is_one_of_anything(batch, layer, alone, training):
    """Whether there is a single sample, for layers that accept samples of any shape."""
    inputs, labeled = leaves(batch.images), [*leaves(batch.labels), *leaves(batch.sample_weights)]
    if alone and any(len(array.shape) == 0 for array in labeled) and all(len(x.shape) <= 3 for x in inputs):
        return True
    if len(inputs) != 1 or len(inputs[0].shape) != 3:
        return False
    shown = what_labels_show(batch)
    if shown in ("one", "batch"):
        return shown == "one" and alone
    if _has_few_channels(inputs[0], layer.data_format) is False:
        return False
    first, second = (static(inputs[0], axis) for axis in (0, 1))
    unsure = first is not None if layer._mixes or shown == "either" else first is None and second is None
    if training is not False and unsure:
        fail(
            "This may be a batch of signals (batch, time, channels), or one image (height, width, channels). Signals "
            'need a layer with `kind="signal"`; a single image needs a batch axis, `images[None]`.',
            shape=tuple(inputs[0].shape), labels=_shapes_of_labels(batch),
        )  # fmt: skip
    return alone and first is not None


def _kind_of_images(batch, layer, alone):
    """Returns `kind_of` by the rank, for layers that use pixel positions.

    Input with three axes is a single image if no other interpretation is possible.
    """
    array = leaves(batch.images)[0]
    shape = tuple(array.shape)
    kind = {4: "image", 5: "video"}.get(len(shape))
    if kind is not None:
        return kind, False
    if len(shape) != 3:
        taken = " or ".join(SHAPES[name] for name in ("image", "video") if name in layer._all_kinds())
        fail(f"Expected images of shape {taken}{' or (height, width, channels)' if alone else ''}.", shape=shape)
    # An input of a model has a batch axis of unknown size, so its three axes are not those of one image.
    if not alone or (isinstance(array, keras.KerasTensor) and shape[0] is None):
        fail(f"Expected a batch of images of shape {SHAPES['image']}. {HOW_TO_SAY}", shape=shape)
    shown = what_labels_show(batch)
    if shown == "one":
        return "image", True
    if shown is not None:
        what = (
            "a batch, or a single image and its label"
            if shown == "either"
            else "a batch of grayscale images or signals"
        )
        fail(f"This may be {what}. {HOW_TO_SAY}", shape=shape, labels=_shapes_of_labels(batch))
    if _has_few_channels(array, layer.data_format) is False:
        fail(
            "This may be a single image (height, width, channels), a batch of grayscale images without a channel axis, "
            f"or a batch of signals. {HOW_TO_SAY}",
            shape=shape, data_format=layer.data_format,
        )  # fmt: skip
    return "image", True


def _shapes_of_labels(batch):
    shapes = [tuple(array.shape) for array in leaves(batch.labels)]
    return shapes[0] if len(shapes) == 1 else shapes


def _has_few_channels(array, data_format):
    """Whether the channel axis, if this is an image, has a plausible size. Returns `None` if it is unknown."""
    channels = static(array, -1 if data_format == "channels_last" else 0)
    return None if channels is None else channels <= CHANNELS


def what_labels_show(batch):
    """Infers from labels, weights or masks whether an array with three axes is "one" image or a "batch".

    Returns "either" if both are possible, and `None` if there is no information.
    """
    (array,) = leaves(batch.images)
    size = static(array, 0)
    apart = [*leaves(batch.labels), *leaves(batch.sample_weights)]
    if any(len(x.shape) == 0 or (None not in (size, static(x, 0)) and static(x, 0) != size) for x in apart):
        return "one"
    if any(len(mask.shape) == 2 for mask in leaves(batch.masks)):
        return "one"
    if any(len(x.shape) == 1 for x in leaves(batch.sample_weights)):
        return "batch"
    rows = [x for x in leaves(batch.labels) if len(x.shape) == 1]
    if any(is_int(x) for x in rows):
        return "batch"
    if any(len(x.shape) == 2 and None not in _seconds(x, array) and len(set(_seconds(x, array))) == 2 for x in apart):
        return "batch"  # rows of classes: a map would have the width of the image
    return "either" if rows else None


def _seconds(*arrays):
    return [static(array, 1) for array in arrays]


def lifted(batch):
    """Returns the specification of a single sample as a batch. Labels keep their values if these can be read."""

    def lift(array):
        if len(array.shape) <= 1 and is_concrete(array):
            return np.asarray(array)[None]
        return spec_of((1, *array.shape), dtype_of(array))

    others = keras.tree.map_structure(lambda x: lift(x) if hasattr(x, "shape") else x, batch.others)
    return dataclasses.replace(each(batch, lift), others=others)
