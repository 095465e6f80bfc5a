"""On PyTorch, the host knows which branch each image takes, so that each branch runs on its own images only."""

import dataclasses
import sys
from typing import Any

import numpy as np


@dataclasses.dataclass
class Routes:
    """The images of each step in the order of their branches.

    Attributes:
        orders: For each step, where its images are among those of the step before, and at the end, where the images of
            the batch are among those of the last step. Each is int32 (batch,).
        counts: For each step, the number of images of each branch. The first number is that of unchanged images.
        parameters: For each step, the parameters of its images, (parameters, batch).
    """

    orders: list
    counts: list
    parameters: list

    @classmethod
    def of(cls, which: Any, parameters: Any) -> Any:
        """Returns the routes for the arguments of `Place.routes`, NumPy arrays."""
        found = cls([], [], [])
        place_of = np.arange(len(which), dtype="int32")  # where each image of the batch is
        for step in range(which.shape[1]):
            order = np.argsort(which[:, step], kind="stable")
            found.orders.append(place_of[order])
            found.counts.append(np.bincount(which[:, step] + 1, minlength=1).tolist())
            found.parameters.append(np.stack([array[:, step][order] for array in parameters]))
            place_of[order] = np.arange(len(which), dtype="int32")
        found.orders.append(place_of)
        return found

    def run(self, branches, images):
        """Returns the images after their branches. No image is copied on the way from one branch to the next."""
        torch = sys.modules["torch"]
        for order, counts, parameters in zip(self.orders, self.counts, self.parameters, strict=False):
            (unchanged, *parts), (_, *given) = (
                array.split(counts, axis) for array, axis in ((images.index_select(0, order), 0), (parameters, 1))
            )
            changed = [
                branch(part, *numbers.unbind(0))
                for branch, part, numbers in zip(branches, parts, given, strict=False)
                if len(part)
            ]
            images = torch.cat([unchanged, *changed])
        return images.index_select(0, self.orders[-1])
