"""The operations that each image of a batch has drawn, one after another."""

from typing import Any, NamedTuple

import numpy as np

from keras_reg.layers._pixels._affine import Affine, around_center, cosine_and_sine
from keras_reg.layers._policies._magnitudes import BLENDING
from keras_reg.layers._policies._operations import BRANCHES, branch_of


class Steps(NamedTuple):
    """A sequence of operations per image.

    Attributes:
        routes: The `Place.routes` of the branches. The parameters are the strengths and the entries of the `affine`.
        affine: The `Affine` of each operation, the identity where it does not move pixels. Its entries have shape
            (batch, steps).
    """

    routes: Any
    affine: Any

    def affines(self):
        """Returns the `Affine` of each step."""
        return [Affine(*(entry[:, step] for entry in self.affine)) for step in range(self.affine.xx.shape[1])]


def branches_of(names):
    """Returns the names of the branches that these operations need, in the order of `BRANCHES`."""
    needed = {branch_of(name) for name in names}
    return [branch for branch in BRANCHES if branch in needed]


def arrays_of_steps(operation, magnitude, names, size, ops):
    """Returns what describes operations, indices of `names`, and their magnitudes, both (batch, steps).

    It returns the index of the branch, int32, the strength, and the entries of the `Affine`, each (batch, steps). The
    strength of a blend is the weight of the image itself, and otherwise the magnitude.
    """
    branches = branches_of(names)
    numbers = [branches.index(branch_of(name)) if branch_of(name) in branches else -1 for name in names]
    branch = ops.take(ops.convert_to_tensor(np.asarray(numbers, "int32")), operation, axis=0)

    def amount(name):
        return ops.where(operation == names.index(name), magnitude, 0.0) if name in names else magnitude * 0.0

    blends = ops.take(ops.convert_to_tensor(np.asarray([name in BLENDING for name in names])), operation, axis=0)
    return branch, ops.where(blends, 1.0 + magnitude, magnitude), *_affine_of(amount, size, ops)


def make_steps(arrays, place):
    """Returns the `Steps` for arrays of `arrays_of_steps`."""
    return Steps(place.routes(*arrays), Affine(*arrays[2:]))


def _affine_of(amount, size, ops):
    """Returns the `Affine` of one operation. Shears keep the upper left corner of the image, as in torchvision."""
    cos, sin = cosine_and_sine(amount("rotate"), ops)
    shifts = amount("translate_x"), amount("translate_y")
    turned, across, down = around_center((cos, -sin, sin, cos), shifts, size, ops), amount("shear_x"), amount("shear_y")
    return Affine(
        turned.xx, turned.xy + across, turned.x + 0.5 * across,
        turned.yx + down, turned.yy, turned.y + 0.5 * down,
    )  # fmt: skip


def index_of(u, count, ops):
    """Returns integers from 0 to `count - 1`, int32, from uniform numbers in [0, 1)."""
    return ops.minimum(ops.cast(ops.floor(u * float(count)), "int32"), count - 1)
