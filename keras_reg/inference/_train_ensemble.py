import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_reg import _storage
from keras_reg._messages import say
from keras_reg._typing import Path
from keras_reg._validation import check_folder, check_integer, check_verbose, fail
from keras_reg.training._copies import put_weights

FILE = "member-{}.npz"
LARGEST_SEED = 2**32 - 1
MOST_MEMBERS = 1000


def train_ensemble(
    build: Callable[[], keras.Model],
    fit: Callable[[keras.Model], Any],
    n: int,
    seed: int = 0,
    folder: Path | None = None,
    verbose: int = 1,
) -> list[keras.Model]:
    """Builds and trains several models, each with a random seed of its own.

    The members differ in their initial weights, and in the order and the augmentation of the examples.
    `keras_reg.inference.ensemble` combines them.

    Before each member, this function calls `keras.utils.set_random_seed` with a seed that depends on `seed` and the
    number of the member. So the members do not depend on each other, and more of them can be trained later.

    With `folder`, the weights of each member are saved after its training. After a crash, start the same program again:
    the members that are in the folder are loaded, and only the others are trained. The folder stays after the last
    member. To resume within the training of a member, use `keras_reg.callbacks.persist` in `fit`.

    Args:
        build: Function without arguments that returns a new model, compiled if `fit` needs it.
        fit: Function that trains a model, such as `lambda model: model.fit(x, y, epochs=20, verbose=0)`.
        n: Number of members, from 1 to 1000.
        seed: Integer from 0 to 2**32 - 1.
        folder: Local folder for the weights of this ensemble only, or `None`. `build` must then return built models,
            for example with a `keras.Input`.
        verbose: 1 prints a line per member.

    Returns:
        The list of trained models.

    Raises:
        ValueError: If an argument has the wrong type, if `build` does not return a new model each time, or if the
            folder has members of another ensemble.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> build = lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    >>> fit = lambda model: model.compile("sgd", "mse") or model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    >>> members = inference.train_ensemble(build, fit, n=3, verbose=0)
    >>> inference.ensemble(members).predict(np.ones((5, 4)), verbose=0).shape
    (5, 2)

    References:
        - [Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles](https://arxiv.org/abs/1612.01474)
          (Lakshminarayanan et al., 2017).
    """
    if not callable(fit) or isinstance(fit, (type, keras.layers.Layer)):
        fail("`fit` must be a function that takes a model.", fit=fit)
    return Members(build, seed, folder, verbose).trained(n, lambda model, number: fit(model))


class Members:
    """Trains models, and saves and loads their weights.

    Args:
        build, seed, folder, verbose: Arguments of `train_ensemble`.
    """

    def __init__(self, build, seed, folder, verbose):
        if not callable(build) or isinstance(build, keras.layers.Layer):
            fail("`build` must be a function without arguments that returns a model.", build=build)
        self.build, self.seed = build, check_integer("seed", seed, low=0, high=LARGEST_SEED)
        self.folder, self.verbose = check_folder("folder", folder, optional=True), check_verbose(verbose)

    def trained(self, n, fit):
        """Returns n models, each of which is loaded or trained by `fit(model, number)`."""
        models = []
        for number in range(check_integer("n", n, low=1, high=MOST_MEMBERS)):
            keras.utils.set_random_seed(seed_of(self.seed, number))
            model = self._built(models)
            if self._load(number, model):
                self._say(f"Member {number + 1} of {n}: loaded from {self.folder}.")
            else:
                self._say(f"Member {number + 1} of {n}: training.")
                fit(model, number)
                self._save(number, model)
            models.append(model)
        return models

    def _built(self, earlier):
        model = self.build()
        if not isinstance(model, keras.Model):
            fail("`build` must return a `keras.Model`.", build=model)
        if any(model is other for other in earlier):
            fail("`build` must return a new model in each call.", build=model.name)
        if self.folder is not None and not model.built:
            fail("With `folder`, `build` must return a built model. Begin the model with a `keras.Input`.",
                 build=model.name)  # fmt: skip
        return model

    def _path(self, number):
        return pathlib.Path(self.folder, FILE.format(number))

    def _save(self, number, model):
        if self.folder is not None:
            weights = [_storage.without_bfloat16(np.array(ops.convert_to_numpy(weight))) for weight in model.weights]
            _storage.write_nest(self._path(number), {"seed": self.seed, "weights": weights})

    def _load(self, number, model):
        """Loads the weights of a member, and returns whether the folder has them."""
        if self.folder is None or not self._path(number).exists():
            return False
        found = _storage.read_nest(self._path(number))
        if not isinstance(found, dict) or set(found) != {"seed", "weights"}:
            warnings.warn(f"{self._path(number)} is damaged: this member is trained again.", stacklevel=2)
            return False
        if found["seed"] != self.seed:
            fail(f"`seed` must be that of the members in {self.folder}, {found['seed']}. Use another folder for "
                 "another ensemble.", seed=self.seed)  # fmt: skip
        shapes, own = [array.shape for array in found["weights"]], [tuple(weight.shape) for weight in model.weights]
        if shapes != own:
            fail(f"`build` must return models like those in {self.folder}, whose weights have the shapes {shapes}. Use "
                 "another folder for another ensemble.", shapes=own)  # fmt: skip
        put_weights(model, found["weights"])
        return True

    def _say(self, message):
        if self.verbose:
            say(message)


def seed_of(seed, *numbers):
    """Returns a seed for `keras.utils.set_random_seed` that differs for all seeds and numbers."""
    return int(np.random.SeedSequence((seed, *numbers)).generate_state(1)[0])
