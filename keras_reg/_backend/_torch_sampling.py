"""Bilinear interpolation by PyTorch, for NumPy arrays in memory that both can use."""

import sys

import numpy as np


class Sampler:
    """Interpolates images bilinearly, in one operation of PyTorch.

    It multiplies each pixel by its weight. So a pixel that is infinite or NaN spoils all new pixels next to it, even
    those where its weight is 0.

    Attributes:
        images: The images, zeros (count, channels, height, width) at first, at least two pixels high and wide. Callers
            write the pixels.
    """

    def __init__(self, shape, dtype):
        count, channels, height, width = shape
        # PyTorch expects positions from -1 to 1, and computes (position + 1) * (size - 1) / 2. If `size` - 1 is a power
        # of two, whole positions stay exact. So PyTorch gets a view of a larger size. Its additional rows and columns
        # reach into the next planes, behind the last image into an unused one. No position lies in them.
        planes = np.zeros((count * channels + 1, height, width), dtype)
        self.images = planes[:-1].reshape(shape)
        self._halves = [2.0 ** ((size - 2).bit_length() - 1) for size in (width, height)]
        wide, tall = (int(2 * half) + 1 for half in self._halves)
        strides = channels * height * width, height * width, width, 1
        self._tensor = sys.modules["torch"].from_numpy(planes).as_strided((count, channels, tall, wide), strides)

    def at(self, x, y, first):
        """Returns the first of the images at these columns and rows, each (images, new height, new width).

        Columns and rows are counted from the pixel of `images` with the index `first`, along both axes.
        """
        grid = np.empty((*x.shape, 2), self.images.dtype)
        for axis, (positions, half) in enumerate(zip((x, y), self._halves, strict=True)):
            scaled = positions.astype(grid.dtype, copy=False) * grid.dtype.type(1 / half)
            np.add(scaled, grid.dtype.type(first / half - 1), out=grid[..., axis])
        torch = sys.modules["torch"]
        some = self._tensor[: len(x)]
        return torch.nn.functional.grid_sample(some, torch.from_numpy(grid), align_corners=True).numpy()
