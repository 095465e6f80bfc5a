"""Bilinear interpolation by PyTorch, for NumPy arrays in memory that both can use."""

import sys

import numpy as np

from keras_reg._backend._torch_memory import from_numpy
from keras_reg._backend._torch_ops import TorchOperations


class _OnHost(TorchOperations):
    """The operations of `keras.ops` on tensors in the memory of the host, which may not be Keras' device."""

    def arange(self, start, stop, dtype):
        torch = sys.modules["torch"]
        return torch.arange(start, stop, dtype=getattr(torch, dtype), device="cpu")

    def cast(self, x, dtype):
        torch = sys.modules["torch"]
        wanted = getattr(torch, dtype)
        return x.to(wanted) if isinstance(x, torch.Tensor) else torch.full((), x, dtype=wanted, device="cpu")


class Sampler:
    """Interpolates images bilinearly, in one operation of PyTorch, on all threads.

    It multiplies each pixel by its weight. So a pixel that is infinite or NaN spoils all new pixels next to it, even
    those where its weight is 0.

    Attributes:
        ops: The operations for computing positions, on PyTorch's tensors.
        tensor: A function that returns a tensor in the memory of a NumPy array.
        images: The images, zeros (count, channels, height, width) at first, at least two pixels high and wide. Callers
            write the pixels. They lie in memory channel by channel (`by_channel`) or pixel by pixel. The fastest layout
            is that of the pixels that are written.
    """

    ops = _OnHost()
    tensor = staticmethod(from_numpy)

    def __init__(self, shape, dtype, by_channel):
        count, channels, height, width = shape
        # PyTorch expects positions from -1 to 1, and computes (position + 1) * (size - 1) / 2. If `size` - 1 is a power
        # of two, whole positions stay exact. So PyTorch gets a view of a larger size. Its additional rows and columns
        # reach into the next images, behind the last one into an unused one. No position lies in them.
        if by_channel:
            images = from_numpy(np.zeros((count + 1, channels, height, width), dtype))
        else:
            images = from_numpy(np.zeros((count + 1, height, width, channels), dtype)).permute(0, 3, 1, 2)
        self.images = images[:-1]
        self._halves = [2.0 ** ((size - 2).bit_length() - 1) for size in (width, height)]
        wide, tall = (int(2 * half) + 1 for half in self._halves)
        self._view = images.as_strided((count, channels, tall, wide), images.stride())

    @staticmethod
    def threads():
        """Returns how many images are interpolated at the same time."""
        return sys.modules["torch"].get_num_threads()

    def at(self, x, y, first):
        """Returns the first of the images at these columns and rows, each (images, new height, new width).

        Columns and rows are counted from the pixel of `images` with the index `first`, along both axes.
        """
        torch = sys.modules["torch"]
        grid = torch.empty((*x.shape, 2), dtype=self.images.dtype, device="cpu")
        for axis, (positions, half) in enumerate(zip((x, y), self._halves, strict=True)):
            start = torch.full((), first / half - 1, dtype=grid.dtype, device="cpu")
            torch.add(start, positions.to(grid.dtype), alpha=1 / half, out=grid[..., axis])
        return torch.nn.functional.grid_sample(self._view[: len(x)], grid, align_corners=True)
