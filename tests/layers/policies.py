"""The operations of the policies on one uint8 image, from Pillow and from their definition in float64."""

import collections

import numpy as np
from scipy import stats

MOVING = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
BLENDING = ("brightness", "color", "contrast", "sharpness")
INEXACT = (*BLENDING, "auto_contrast")  # to one level: Pillow rounds otherwise
NAMES = ("identity", *MOVING, *BLENDING, "posterize", "solarize", "auto_contrast", "equalize", "invert")
LARGEST = {
    "narrow": {"shear": 0.3, "rotate": 30, "blend": 0.9, "bits": (8, 4), "shift": lambda length: 150 / 331 * length},
    "wide": {"shear": 0.99, "rotate": 135, "blend": 0.99, "bits": (8, 2), "shift": lambda length: 32},
    "mixed": {"shear": 0.3, "rotate": 30, "blend": 0.9, "bits": (4, 0), "shift": lambda length: length / 3},
}


def photo(height=13, width=17, channels=3, seed=0):
    """A uint8 image with smooth and rough parts, of which no channel has all values."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    slope = (rows * 90 / height + columns * 60 / width)[..., None] + [10, 40, 60][:channels]
    return np.clip(slope + rng.normal(0, 12, (height, width, channels)), 8, 240).astype("uint8")


def magnitude_of(name, share, size, space="narrow"):
    """The magnitude of an operation at a share of its range, from 0 to 1."""
    most, (height, width) = LARGEST[space], size
    first, last = most["bits"]
    return {
        **dict.fromkeys(("shear_x", "shear_y"), share * most["shear"]),
        "translate_x": int(share * most["shift"](width) + 1e-6),
        "translate_y": int(share * most["shift"](height) + 1e-6),
        "rotate": share * most["rotate"],
        **dict.fromkeys(BLENDING, share * most["blend"]),
        "posterize": int(np.round(first - share * (first - last))),
        "solarize": 255 * (1 - share),
    }.get(name, 0)


def expected(name, magnitude, image):
    """The image after one operation, and which pixels are clear.

    The others come from between two pixels, or are as light as the threshold of "solarize", and rounding decides.
    """
    if name in MOVING:
        return moved(image, *matrix_of(name, magnitude, *image.shape[:2]))
    tie = np.abs(image - magnitude) < 1e-3 if name == "solarize" else np.zeros(image.shape, bool)
    return changed(name, magnitude, image), ~tie.any(-1)


def matrix_of(name, magnitude, height, width):
    """A matrix and a shift from positions (x, y), in which (0, 0) is the upper left corner, to their sources."""
    matrix, shift = np.eye(2), np.zeros(2)
    if name.startswith("shear"):
        matrix[(0, 1) if name == "shear_x" else (1, 0)] = magnitude
    elif name.startswith("translate"):
        shift[0 if name == "translate_x" else 1] = -magnitude
    else:
        angle, center = np.radians(magnitude), np.array([width, height]) / 2
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shift = center - matrix @ center
    return matrix, shift


def moved(image, matrix, shift, fill=0):
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width] + 0.5
    x, y = np.einsum("ij,jhw->ihw", matrix, np.stack([columns, rows])) + shift[:, None, None]
    clear = np.all([np.abs(p - np.round(p)) > 1e-3 for p in (x, y)], axis=0)
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    found = image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
    return np.where(inside[..., None], found, fill).astype(image.dtype), clear


def changed(name, magnitude, image):
    """Pillow's result for an operation that leaves the pixels where they are."""
    from PIL import Image, ImageEnhance, ImageOps

    given = Image.fromarray(image.squeeze())
    functions = {
        "identity": lambda: given,
        "brightness": lambda: ImageEnhance.Brightness(given).enhance(1 + magnitude),
        "color": lambda: ImageEnhance.Color(given).enhance(1 + magnitude),
        "contrast": lambda: ImageEnhance.Contrast(given).enhance(1 + magnitude),
        "sharpness": lambda: ImageEnhance.Sharpness(given).enhance(1 + magnitude),
        "posterize": lambda: ImageOps.posterize(given, magnitude) if magnitude else Image.new(given.mode, given.size),
        "solarize": lambda: ImageOps.solarize(given, magnitude),
        "auto_contrast": lambda: ImageOps.autocontrast(given),
        "equalize": lambda: ImageOps.equalize(given),
        "invert": lambda: ImageOps.invert(given),
    }
    return np.asarray(functions[name]()).reshape(image.shape)


class Outcomes:
    """Every possible result of one operation on an image, and the one that a result is.

    Attributes:
        keys: The (name, level, sign) of each result. Operations with the same result count as the first of them.
        odds: The probability of each result.
        shares: The probability of each name.
    """

    def __init__(self, image, bins, space="narrow", names=NAMES, levels=None):
        self.shares, self.keys, self.images, self.clear = dict.fromkeys(names, 0.0), [], [], []
        self.odds, self.found = [], {}
        levels = range(bins) if levels is None else levels
        for name in names:
            signs = (1, -1) if name in (*MOVING, *BLENDING) else (1,)
            for level in levels:
                for sign in signs:
                    magnitude = sign * magnitude_of(name, level / (bins - 1), image.shape[:2], space)
                    self._add(name, level, sign, *expected(name, magnitude, image), 1 / len(levels) / len(signs))
        self.images, self.clear = np.stack(self.images).astype(int), np.stack(self.clear)
        assert self.clear.mean((1, 2)).min() > 0.7

    def _add(self, name, level, sign, found, clear, share):
        same = next((i for i, other in enumerate(self.images) if (other == found).all()), None)
        share /= len(self.shares)
        self.shares[name if same is None else self.keys[same][0]] += share
        if same is not None:
            self.odds[same] += share
            return
        self.keys.append((name, level, sign))
        self.odds.append(share)
        self.images.append(found)
        self.clear.append(clear)

    def of(self, result):
        """The (name, level, sign) nearest to a result, and the largest difference of clear pixels."""
        given = result.tobytes()
        if given not in self.found:
            away = np.abs(self.images - result).max(-1) * self.clear
            best = away.mean((1, 2)).argmin()
            self.found[given] = self.keys[best], away[best].max()
        return self.found[given]

    def keys_of(self, results):
        """The key of each result, which is that of Pillow but for one level where it rounds otherwise."""
        found = [self.of(result) for result in results]
        wrong = [(key, away) for key, away in found if away > (key[0] in INEXACT)]
        assert not wrong, wrong[:5]
        return [key for key, _ in found]

    def p_values(self, keys):
        """Of chi-square tests of the names, the levels and the signs of many results, and of all of them together."""
        count, p_values = len(keys), []
        for part in (lambda key: key[0], lambda key: key[1], lambda key: key[2], lambda key: key):
            expected = dict.fromkeys(map(part, self.keys), 0.0)
            for key, share in zip(self.keys, self.odds, strict=True):
                expected[part(key)] += count * share
            observed = collections.Counter(map(part, keys))
            if len(expected) > 1:
                p_values.append(stats.chisquare([observed[name] for name in expected], list(expected.values())).pvalue)
        return p_values


def sequences(image, steps, length):
    """Every image after `length` operations in a row, as bytes, and its probability.

    Args:
        image: The image.
        steps: The operations to draw from, (name, magnitude, probability). Of those that move pixels, only shifts by
            whole pixels leave no doubt.
        length: Number of operations.
    """
    found = {image.tobytes(): 1.0}
    for _ in range(length):
        before, found = found, {}
        for start, share in before.items():
            for name, magnitude, odds in steps:
                given = np.frombuffer(start, image.dtype).reshape(image.shape)
                after = np.ascontiguousarray(expected(name, magnitude, given)[0]).tobytes()
                found[after] = found.get(after, 0) + share * odds
    return found
