"""Mixing inside a network: labels are mixed before the network runs, and the activations of one of its layers later.

The plan in a `Batch` describes what the layers have to do. It is a dict of arrays, which have one entry per sample:

    "partner"   the index of the partner
    "blends"    for each layer, the weight of the sample itself, or `None` if nothing is blended
    "boxes"     for each layer, (top, left, height, width) of the box that shows the partner, or `None`

One layer is drawn per batch. For the others, the weight is 1 and the height of the box is 0, so their output stays.
"""

import dataclasses

from keras_reg._backend import place_of
from keras_reg._dtypes import dtype_of
from keras_reg._validation import fail
from keras_reg.layers._batch._content import Batch, leaves
from keras_reg.layers._batch._shapes import is_map, spread
from keras_reg.layers._pixels._kernels import kernels_for
from keras_reg.layers._pixels._mixed import mix
from keras_reg.layers._pixels._mixing import SHIFT, Mix


def mix_here_or_inside(batch, u, plan_for, layer):
    """Mixes a batch, or leaves its images to the network.

    Args:
        batch: The batch.
        u: The uniform numbers of the mixer.
        plan_for: A function from the height and width of what is mixed (`None`: the images) to the plan.
        layer: The mixer, or a `RandomChoice` of mixers.
    """
    if batch.inside is None:
        return mix(batch, plan_for(None), layer.num_classes, layer.data_format)
    ops = batch.ops
    by_size = {size: plan_for(size) for size in dict.fromkeys(batch.inside)}
    plans = [by_size[size] for size in batch.inside]
    drawn = _drawn_layer(batch.place.sent(u), len(plans), ops)
    weight = plans[0].weight
    for i, plan in enumerate(plans[1:], 1):
        weight = ops.where(drawn == i, plan.weight, weight)
    partner = plans[0].partner
    batch = dataclasses.replace(batch, plan=_plan_of_layers(partner, plans, drawn, ops))
    return mix(batch, Mix(partner, weight, blend=weight), layer.num_classes, layer.data_format)


def _drawn_layer(u, count, ops):
    """Draws the position of the layer from the last row, whose number in this column nothing else uses.

    With a batch of one, it is the number of the shift, but nothing is mixed then.
    """
    number = ops.sum(u[-1:, SHIFT])  # a sum, since an empty batch has no last row
    return ops.minimum(ops.cast(ops.floor(number * count), "int32"), count - 1)


def _plan_of_layers(partner, plans, drawn, ops):
    found = {"partner": partner, "blends": [], "boxes": []}
    for i, plan in enumerate(plans):
        here = drawn == i
        found["blends"].append(None if plan.blend is None else ops.where(here, plan.blend, 1.0))
        if plan.box is None:
            found["boxes"].append(None)
        else:
            top, left, height, width = plan.box
            found["boxes"].append([top, left, ops.where(here, height, 0), width])
    return found


def check_inside(batch, layer):
    """Refuses what a box in the activations cannot cut: labels and weights that have the positions of the images."""
    if not layer.cuts:
        return
    maps = [array for array in (*leaves(batch.labels), *leaves(batch.sample_weights)) if _is_map(array, batch, layer)]
    if maps or batch.boxes is not None:
        fail(
            f"`{type(layer).__name__}` cannot mix activations if labels or sample weights have positions. Use `MixUp`.",
            shapes=[tuple(array.shape) for array in maps],
            boxes=batch.boxes is not None,
        )


def _is_map(array, batch, layer):
    return is_map(array, batch.images, layer.data_format)


def mixed_activations(array, plan, position, data_format):
    """Returns the activations of one layer, mixed by the plan of a batch."""
    place = place_of([array])
    ops, dtype = place.ops, dtype_of(array)
    kernels = kernels_for(Batch(place=place, images=array), data_format)
    pixels = ops.cast(array, place.dtype_of_arithmetic(dtype))
    mixed = kernels.mix(pixels, plan["partner"], plan["blends"][position], plan["boxes"][position])
    return ops.cast(mixed, dtype)


def united_mask(mask, plan, position, ops):
    """Returns which steps of each sample or of its partner count, if they have a share in the mixed sample."""
    other = ops.take(mask, plan["partner"], axis=0)
    own, given = True, False
    if plan["blends"][position] is not None:
        weight = spread(plan["blends"][position], mask, ops)
        own, given = weight > 0, weight < 1
    if plan["boxes"][position] is not None:
        given = given | (spread(plan["boxes"][position][2], mask, ops) > 0)
    return (mask & own) | (other & given)
