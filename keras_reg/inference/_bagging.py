from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_reg._typing import Path
from keras_reg._validation import fail
from keras_reg.inference._train_ensemble import Members


def bagging(
    build: Callable[[], keras.Model],
    data: Any,
    n: int,
    seed: int = 0,
    folder: Path | None = None,
    verbose: int = 1,
    **fit_arguments: Any,
) -> list[keras.Model]:
    """Trains several models, each on a bootstrap sample: as many examples as there are, drawn with replacement.

    In a sample, a share of 1 - (1 - 1/N)^N of the N examples occurs, about 63 %, and some of them repeatedly.
    `keras_reg.inference.ensemble` combines the models. Seeds, `folder` and resuming are those of
    `keras_reg.inference.train_ensemble`. The sample of a member depends only on `seed` and its number.

    Args:
        build: Function without arguments that returns a new, compiled model.
        data: A tuple (x, y) or (x, y, sample_weight) of arrays, or of dicts or lists of arrays. All of them have one
            entry per example.
        n: Number of models, from 1 to 1000.
        seed: Integer from 0 to 2**32 - 1.
        folder: Local folder for the weights of this ensemble only, or `None`. `build` must then return built models.
        verbose: 1 prints a line per model.
        **fit_arguments: Further arguments of `fit`, such as `epochs`, `batch_size` and `callbacks`.

    Returns:
        The list of trained models.

    Raises:
        ValueError: If an argument has the wrong type, if the examples cannot be indexed, as in a `tf.data.Dataset`, if
            their numbers differ, or if `validation_split` is given, since it would share examples with the training.

    Example:

    >>> def build():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> data = keras.ops.ones((8, 4)), keras.ops.ones((8, 2))
    >>> len(keras_reg.inference.bagging(build, data, n=3, epochs=2, verbose=0))
    3

    References:
        - [Bagging Predictors](https://doi.org/10.1007/BF00058655) (Breiman, 1996).
    """
    given = {"x", "y", "sample_weight"} & fit_arguments.keys()
    if given:
        fail("The examples must be in `data`.", **{name: type(fit_arguments[name]).__name__ for name in given})
    if fit_arguments.get("validation_split"):
        fail(
            "`bagging` draws examples with replacement, so some would be in both the training and the validation part. "
            "Pass `validation_data`.",
            validation_split=fit_arguments["validation_split"],
        )
    members, count = Members(build, seed, folder, verbose), _count(data)

    def fit(model, number):
        if not model.compiled:
            fail("`build` must return a compiled model.", build=model.name)
        rows = bootstrap(count, members.seed, number)
        x, y, weight = (keras.tree.map_structure(lambda array: _rows(array, rows), part) for part in _three(data))
        model.fit(x, y, sample_weight=weight, verbose=0, **fit_arguments)

    return members.trained(n, fit)


def bootstrap(count, seed, number):
    """Returns `count` row numbers, drawn with replacement."""
    return np.random.default_rng((seed, number, 1)).integers(0, count, count)  # (seed, number) seeds the model


def _three(data):
    return (*data, None)[:3]


def _count(data):
    """Returns the number of examples in arrays."""
    if not isinstance(data, (tuple, list)) or not 2 <= len(data) <= 3 or data[1] is None:
        fail(
            "`data` must be (x, y) or (x, y, sample_weight) with arrays, from which rows are drawn. A dataset cannot "
            "be indexed: convert it to arrays, or resample it in the `fit` of `train_ensemble`.",
            data=type(data).__name__,
        )
    parts = keras.tree.flatten(list(data))
    shapes = [tuple(getattr(part, "shape", ())) for part in parts if part is not None]
    counts = {shape[0] if shape else None for shape in shapes}
    if len(counts) != 1 or not counts.isdisjoint({None, 0}):
        fail("`data` must be arrays with the same number of examples, at least one.", shapes=shapes)
    return counts.pop()


def _rows(array, rows):
    """Returns rows of an array of NumPy, pandas or a framework."""
    if array is None:
        return None
    if ops.is_tensor(array):
        return ops.take(array, rows, axis=0)
    return np.asarray(array)[rows]
