"""The choice of kernels that mix, fill, move, crop, warp, sharpen and blur pixels. Both kinds have the same interface.

The place where a batch lives (see `keras_reg._backend._place`) determines how a call processes its pixels:

    Batch                                             Place              How the call runs           Kernels
    ------------------------------------------------  -----------------  --------------------------  --------------
    JAX or TensorFlow, many pixels                    `...Program`       one compiled program        `ForCompilers`
    JAX or TensorFlow, few pixels                     `...Place`         operation by operation      `ForCompilers`
    inside a function that the user compiles          `...Place`         part of that function       `ForCompilers`
    tf.data under JAX or PyTorch                      `TensorFlowGraph`  as under TensorFlow         `ForCompilers`
    PyTorch on a GPU, or with gradients               `TorchPlace`       operation by operation      `ForCompilers`
    PyTorch on a CPU                                  `TorchHost`        NumPy in the same memory    `ForHost`
    NumPy in data-loading workers                     `NumpyPlace`       NumPy                       `ForHost`
    PyTorch's tensors under another backend           `ForeignTorch`     NumPy in the same memory    `ForHost`
"""

from keras_reg.layers._pixels._for_compilers import ForCompilers
from keras_reg.layers._pixels._for_host import ForHost


def kernels_for(batch, data_format):
    """Returns the kernels `mix`, `fill`, `move`, `crop`, `warp`, `sharpen` and `blur` for the place of the batch."""
    return (ForHost if batch.place.is_host else ForCompilers)(batch.place, data_format)
