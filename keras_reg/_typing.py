"""Types of public signatures, in the words of the documentation.

`Tensor` is any type: a tensor of whichever backend runs, or what Keras converts to one. A type of its own would import
a framework.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import keras

from keras_reg._strength import Strength

Tensor: TypeAlias = Any
Tensors: TypeAlias = Any  # a tensor, or a tuple, list or dict of them
Boxes: TypeAlias = dict[str, Tensor]  # "boxes", and "classes" or "labels"

StrengthLike: TypeAlias = float | Strength
DataFormat: TypeAlias = Literal["channels_last", "channels_first"] | None
Kind: TypeAlias = Literal["image", "video", "signal"] | None
Pair: TypeAlias = Sequence[float]  # of two numbers
Shape: TypeAlias = Sequence[int | None]
Path: TypeAlias = str | os.PathLike[str]

Callbacks: TypeAlias = keras.callbacks.Callback | Sequence[keras.callbacks.Callback]
Config: TypeAlias = dict[str, Any]
Logs: TypeAlias = dict[str, Any] | None
Unfrozen: TypeAlias = int | str | Sequence[str]  # "all", the last n layers, or globs
