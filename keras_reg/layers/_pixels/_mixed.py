"""Mixes every part of a batch by one plan: pixels, labels, sample weights and boxes."""

import dataclasses

from keras_reg._dtypes import at_least_float32, dtype_of, is_float
from keras_reg.layers._batch._boxes import concatenate_boxes
from keras_reg.layers._batch._content import leaves, map_arrays
from keras_reg.layers._batch._shapes import is_map, spread
from keras_reg.layers._pixels._for_compilers import blended
from keras_reg.layers._pixels._kernels import kernels_for
from keras_reg.layers._pixels._mixing import one_hot, one_hot_map


def mix(batch, plan, num_classes, data_format):
    """Mixes every part of every sample by one plan. The images are left out if the network mixes its activations."""
    mixing = _Mixing(batch, plan, num_classes, data_format, kernels_for(batch, data_format))
    return dataclasses.replace(
        batch,
        **({} if batch.inside is not None else mixing.pixels_of_images()),
        terms=mixing.terms() if batch.keeps_ids else mixing.collapsed(mixing.terms()),
        dominant=mixing.dominant() if batch.keeps_ids and batch.labels is not None else None,
        sample_weights=map_arrays(mixing.weight, batch.sample_weights),
        masks=map_arrays(mixing.pixels, batch.masks),
        boxes=None if batch.boxes is None else concatenate_boxes(batch.boxes, plan, batch.ops),
    )


@dataclasses.dataclass
class _Mixing:
    """A batch, its plan, and the settings for its labels."""

    batch: object
    plan: object
    num_classes: int | None
    data_format: str
    kernels: object

    @property
    def ops(self):
        return self.batch.ops

    def other(self, array):
        """Returns the values of each sample's partner."""
        return self.batch.place.entries(array, self.plan.partner)

    # Pixels.

    def pixels_of_images(self):
        """Returns the fields of a batch that describe its mixed images."""
        batch, blend = self.batch, self.plan.blend
        images = map_arrays(lambda array: self.combine(array, blend, batch.fresh), batch.images)
        return {"images": images, "fresh": batch.place.is_host}

    def combine(self, array, weight, fresh=False):
        """Blends the pixels, and then pastes the boxes."""
        return self.kernels.mix(array, self.plan.partner, weight, self.plan.box, fresh=fresh)

    def cut(self, array, other):
        """Returns `array` with the partners' values from `other` in the box."""
        return self.kernels.mix(array, self.plan.partner, box=self.plan.box, source=None if other is array else other)

    def pixels(self, array):
        """Mixes a mask or label map. Ids become one-hot if they are blended."""
        if self.plan.blend is None:
            return self.combine(array, None)
        if is_float(array):
            dtype = dtype_of(array)
            return self.ops.cast(self.combine(self.ops.cast(array, at_least_float32(dtype)), self.plan.blend), dtype)
        return self.combine(one_hot_map(array, self.num_classes, self.data_format, self.ops), self.plan.blend)

    # Labels and weights.

    def linear(self, array):
        """Mixes values linearly, in float32 or float64, and casts them back to their dtype."""
        dtype = dtype_of(array) if is_float(array) else "float32"
        array = self.ops.cast(array, at_least_float32(dtype))
        weight = spread(self.ops.cast(self.plan.weight, array.dtype), array, self.ops)
        return self.ops.cast(blended(array, self.other(array), weight, self.ops), dtype)

    def weight(self, array):
        """Mixes sample weights like labels, and weights of pixels like their pixels."""
        if not self.is_map(array):
            return self.linear(array)
        return self.pixels(array if is_float(array) else self.ops.cast(array, "float32"))

    def is_map(self, array):
        return is_map(array, self.batch.images, self.data_format)

    def is_cut(self, array):
        return self.plan.box is not None and self.is_map(array)

    def is_split(self, array):
        """Whether a label is split into two, because a mixture of integers is not an integer."""
        whole = self.is_cut(array) and self.plan.blend is None
        return not is_float(array) and not whole

    def own(self, array, other):
        """Returns the label of the sample itself. If pixels are cut, the map includes the partner's pixels."""
        if is_float(array):
            return self.pixels(array) if self.is_map(array) else self.linear(array)
        return self.cut(array, other) if self.is_cut(array) else array

    def given(self, own, other):
        """Returns the label of the partner."""
        if not self.is_split(own):
            return own
        given = self.other(other)
        return self.ops.where(spread(self.plan.box[2] > 0, own, self.ops), own, given) if self.is_cut(own) else given

    def terms(self):
        """Returns the terms of the mixed labels: two per term if labels are split, one if labels hold the mixture.

        A map that is cut combines its own label from one term with its partner's from another. Then every pair of
        terms becomes a term, weighted by the product of their weights.
        """
        arrays, terms = leaves(self.batch.labels), self.batch.terms
        split = any(map(self.is_split, arrays))
        if len(terms) == 1 and not split:
            return [(map_arrays(self.own, *2 * [terms[0][0]]), None)]
        crossed = len(terms) > 1 and any(self.is_cut(array) and not is_float(array) for array in arrays)
        found, kept = [], self.plan.weight
        for (labels, share), (others, others_share) in _pairs(terms) if crossed else zip(terms, terms, strict=True):
            share, given = self.weights(share), self.other(self.weights(others_share))
            share, given = (share * given, share * given) if crossed else (share, given)
            own = map_arrays(self.own, labels, others)
            if split:
                found += [(own, share * kept), (map_arrays(self.given, own, others), given * (1.0 - kept))]
            else:
                found.append((own, share))
        return found

    def collapsed(self, terms):
        """Replaces two terms by one: split labels become one-hot mixtures."""
        if len(terms) == 1:
            return terms
        (own, _), (given, _) = terms
        return [(map_arrays(self.mixture, own, given), None)]

    def mixture(self, own, given):
        if not self.is_split(own):
            return own
        own, given = self.hot(own), self.hot(given)
        return blended(own, given, spread(self.plan.weight, own, self.ops), self.ops)

    def hot(self, array):
        if self.is_map(array):
            return one_hot_map(array, self.num_classes, self.data_format, self.ops)
        return one_hot(array, self.num_classes, self.ops)

    def weights(self, weights):
        return self.ops.ones_like(self.plan.weight) if weights is None else weights

    # Labels for the metrics.

    def dominant(self):
        """Returns the original labels with the largest weights, and these weights."""
        labels, weights = self.batch.dominant or self.batch.terms[0]
        if weights is None:
            ones = self.weights(None)
            weights = map_arrays(lambda _: ones, labels)
        return map_arrays(self.choice, labels, weights), map_arrays(self.weight_of_choice, labels, weights)

    def shares(self, weight):
        return weight * self.plan.weight, self.other(weight) * (1.0 - self.plan.weight)

    def choice(self, array, weight):
        mine, theirs = self.shares(weight)
        keep, own = mine >= theirs, array
        if self.is_cut(array):
            keep, own = keep | (self.plan.box[2] > 0), self.cut(array, array)
        return self.ops.where(spread(keep, array, self.ops), own, self.other(array))

    def weight_of_choice(self, array, weight):
        mine, theirs = self.shares(weight)
        most = self.ops.maximum(mine, theirs)
        # A map that was cut contains both labels, each at its own pixels.
        return self.ops.where(self.plan.box[2] > 0, mine + theirs, most) if self.is_cut(array) else most


def _pairs(terms):
    return [(first, second) for first in terms for second in terms]
