"""What a call must give, in float64 NumPy, for the draw that its result betrays.

With labels 0, 1, 2, 3 a mixture says who is in it; a crop or an erased box is found by looking for it.
"""

import itertools

import keras
import numpy as np
from harness import to_numpy

CLASSES, FILL, MASK_FILL, PADDING = 4, 3.0, 2.0, (1, 2)


def real(value):
    """`value` as float64, or `None` where it is no array of real numbers. Too much for float32 is infinite there."""
    try:
        array = np.asarray(to_numpy(value) if hasattr(value, "dtype") else value)
    except Exception:
        return None
    if array.dtype.kind == "O" or array.dtype.kind not in "fiub":
        return None
    with np.errstate(over="ignore"):
        return array.astype("float32" if array.dtype.kind == "f" else array.dtype).astype("float64")


def kind(value):
    """The kind of its dtype, as NumPy names it."""
    return np.asarray(to_numpy(value) if hasattr(value, "dtype") else value).dtype.kind


def close(found, expected):
    """The same numbers, as their dtype can hold them. What an infinity is blended with is not finite, and no more."""
    tolerance = 2e-3 if getattr(found, "dtype", None) is not None and "float16" in str(found.dtype) else 1e-5
    found = real(found)
    if found is None or found.shape != expected.shape:
        return False
    finite = np.isfinite(expected)
    scale = np.max(np.abs(expected), initial=0, where=finite)
    same = np.allclose(found[finite], expected[finite], rtol=tolerance, atol=tolerance / 5 * max(scale, 1e-30))
    return same and not np.isfinite(found[~finite]).any()


def product(weights, array):
    """weights @ array over the batch, where 0 times anything is 0."""
    shaped = [weights[:, j].reshape(-1, *[1] * (array.ndim - 1)) for j in range(weights.shape[1])]
    with np.errstate(all="ignore"):
        return sum(np.where(w == 0, 0, w * array[j]) for j, w in enumerate(shaped))


def region(before, after):
    """Where images differ, (batch, height, width)."""
    return ~((before == after) | (np.isnan(before) & np.isnan(after))).all(-1)


def box_of(changed):
    """The smallest box around what is True in (height, width), as a mask."""
    box = np.zeros_like(changed)
    if changed.any():
        rows, columns = np.where(changed.any(1))[0], np.where(changed.any(0))[0]
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


# Each finds the draw in images that it knows, and returns functions of arrays: what becomes of pixels, and of labels.


class Blended:
    """MixUp."""

    def __init__(self, before=None, after=None, labels=None):
        if labels is not None:
            self.weights = real(labels)[:, : len(labels)]
        else:
            flat = before.reshape(len(before), -1)
            self.weights = after.reshape(len(before), -1) @ np.linalg.pinv(flat)
            self.weights = np.where(np.abs(self.weights) < 1e-6, 0, self.weights)

    def pixels(self, array):
        return product(self.weights, array)

    def labels(self, array):
        return product(self.weights, array)

    def maps(self, array, integers):
        if not integers:
            return product(self.weights, array)
        array = array[..., 0] if array.ndim == 4 else array
        return product(self.weights, (array[..., None] == np.arange(CLASSES)).astype("float64"))

    pixel_weights = labels


class Cut:
    """CutMix. From the labels alone the box is not known, only its area."""

    def __init__(self, before=None, after=None, labels=None):
        self.box = None
        if labels is not None:
            self.weights = real(labels)[:, : len(labels)]
            return
        changed = region(before, after)
        self.box, self.partner = np.stack([box_of(c) for c in changed]), np.arange(len(before))
        for i, j in itertools.product(range(len(before)), repeat=2):
            if self.box[i].any() and (after[i][self.box[i]] == before[j][self.box[i]]).all():
                self.partner[i] = j
        share = 1 - self.box.mean((1, 2))
        self.weights = np.diag(share)
        self.weights[np.arange(len(before)), self.partner] += 1 - share

    def pixels(self, array):
        box = self.box.reshape(*self.box.shape, *[1] * (array.ndim - 3))
        return np.where(box, array[self.partner], array)

    def labels(self, array):
        return product(self.weights, array)

    def maps(self, array, integers):
        return self.pixels(array)

    pixel_weights = pixels

    def explains(self, before, after):
        """Whether images are cut from each other by boxes with the shares that the labels say."""
        for i in range(len(before)):
            own = (before[i] == after[i]) | (np.isnan(before[i]) & np.isnan(after[i]))
            j = max((j for j in range(len(before)) if j != i), key=lambda j: self.weights[i, j], default=i)
            theirs = (before[j] == after[i]) | (np.isnan(before[j]) & np.isnan(after[i]))
            count = np.prod(own.shape[:2])
            boxed = box_of(~own.all(-1)).sum() / count
            if not (own | theirs).all() or boxed > self.weights[i, j] + 1e-5:
                return False
        return True


class Erased:
    """RandomErasing with a constant."""

    def __init__(self, before, after, labels=None):
        self.box = np.stack([box_of(changed) for changed in region(before, after)])

    def pixels(self, array, fill=FILL):
        return np.where(self.box.reshape(*self.box.shape, *[1] * (array.ndim - 3)), fill, array)

    def labels(self, array):
        return array

    def maps(self, array, integers):
        return self.pixels(array, MASK_FILL)

    pixel_weights = labels


class Shifted:
    """RandomPadCrop: of all shifts, the one that explains the images."""

    def __init__(self, before, after, labels=None):
        shifts = list(itertools.product(*(range(2 * p + 1) for p in PADDING)))
        self.shifts = []
        for i in range(len(before)):
            fits = [s for s in shifts if np.array_equal(self.moved(before[i], s, FILL), after[i], equal_nan=True)]
            self.shifts.append(fits[0] if fits else None)

    @staticmethod
    def moved(array, shift, fill):
        padded = np.pad(array, [(p, p) for p in PADDING] + [(0, 0)] * (array.ndim - 2), constant_values=fill)
        return padded[shift[0] : shift[0] + array.shape[0], shift[1] : shift[1] + array.shape[1]]

    def pixels(self, array, fill=FILL):
        if None in self.shifts:
            return np.full(array.shape, -12345.0)  # no shift explains what came
        return (
            np.stack([self.moved(a, s, fill) for a, s in zip(array, self.shifts, strict=True)]) if len(array) else array
        )

    def labels(self, array):
        return array

    def maps(self, array, integers):
        return self.pixels(array, MASK_FILL)

    def pixel_weights(self, array):
        return self.pixels(array, 0.0)


class Same:
    """What leaves images, or all but the colours or class ids, as they are."""

    def __init__(self, before, after, labels=None):
        pass

    def pixels(self, array):
        return array

    def labels(self, array):
        return array

    def maps(self, array, integers):
        return array

    pixel_weights = labels


class Mirrored(Same):
    """RandomFlip at a rate of 1: left and right of every image."""

    def pixels(self, array):
        return np.flip(array, 2)

    def maps(self, array, integers):
        return self.pixels(array)

    pixel_weights = pixels


class Turned(Mirrored):
    """RandomAffine, which turns every image around."""

    def pixels(self, array):
        return np.flip(array, (1, 2))

    pixel_weights = pixels


class Gray(Same):
    """RandomGrayscale at a rate of 1, which rounds integers."""

    def __init__(self, before, after, labels=None):
        self.is_whole = np.array_equal(after, np.round(after))

    def pixels(self, array):
        found = np.repeat((array * [0.299, 0.587, 0.114]).sum(-1, keepdims=True), 3, axis=-1)
        return np.round(found) if self.is_whole else found


class Tinted(Same):
    """PCAColorJitter: one shift for all pixels of an image."""

    def __init__(self, before, after, labels=None):
        with np.errstate(all="ignore"):
            difference = np.where(np.isfinite(before), after - before, np.nan)
            self.shift = np.nan_to_num(np.nanmean(difference, axis=(1, 2), keepdims=True)) if before.size else 0

    def pixels(self, array):
        return array + self.shift


def crossentropy(y_true, logits, sample_weight=None, smoothing=0.1, weights=None):
    """The mean loss of ids or distributions, float64; `weights` mixes the rows."""
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = (
        y_true if y_true.ndim == 2 and y_true.shape[1] > 1 else np.eye(logits.shape[1])[y_true.reshape(-1).astype(int)]
    )
    targets = targets if weights is None else weights @ targets
    losses = -(((1 - smoothing) * targets + smoothing / logits.shape[1]) * logs).sum(-1)
    return (losses if sample_weight is None else losses * sample_weight).mean()


def keras_is_tensor(value):
    return keras.ops.is_tensor(value)
