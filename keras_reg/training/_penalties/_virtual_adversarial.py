import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_reg import _backend
from keras_reg._dtypes import dtype_of, is_float
from keras_reg._masks import mask_of
from keras_reg._random_state import POSITION
from keras_reg._renamed import renamed
from keras_reg._strength import Strength
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg._validation import check_integer, check_number, check_seed, fail, is_integer
from keras_reg.training._penalties._divergence import ComparesPasses


@keras.saving.register_keras_serializable(package="keras_reg")
class VirtualAdversarial(ComparesPasses):
    """Virtual adversarial training: penalizes changes of the outputs in the direction in which they change most.

    For each example, the direction d starts at random, and is replaced `iterations` times by the normalized gradient of
    KL(p(x) || p(x + xi d)). The term is KL(p(x) || p(x + epsilon d)), with p(x) constant. It uses neither labels nor
    sample weights, so examples of sample weight 0 count. Positions that a Keras mask leaves out do not count. With
    several outputs, the divergences of those with the loss of a classifier are summed. A step with one iteration takes
    about three times as long.

    Args:
        epsilon: Norm of the perturbation of one example, over all its numbers, in the units of the inputs. If each
            of n numbers changes by s, the norm is s * sqrt(n): begin with s at about 1 % of the range.
        iterations: Number of steps towards the worst direction, at least 1.
        xi: Norm of the change at which this gradient is computed. With `None`, it is a small share of the norm of the
            inputs, which depends on the dtype of the network.
        weight: Number of at least 0, or a `keras_reg.Strength`.
        divergence: A function of the outputs of two passes, for outputs that are not those of a classifier. It returns
            one number, or one per example. Defaults to the Kullback-Leibler divergence. For sigmoid outputs, this is
            the divergence of Bernoulli distributions.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation.
        seed: Integer seed of the random directions, or `None`.
        name: Name in the logs. Defaults to "virtual_adversarial".

    Raises:
        ValueError: If an argument is out of range; in training, if the inputs are integers, or if the outputs are not
            those of a classifier and there is no `divergence`.

    Example:

    >>> from keras_reg import training
    >>> training.VirtualAdversarial(1.5).name
    'virtual_adversarial'

    References:
        - [Virtual adversarial training](https://arxiv.org/abs/1704.03976) (Miyato et al., 2018).
    """

    @renamed(eps="epsilon")
    def __init__(
        self,
        epsilon: float,
        iterations: int = 1,
        xi: float | None = None,
        weight: float | Strength = 1.0,
        divergence: Callable[[Any, Any], Any] | None = None,
        from_logits: bool | None = None,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, divergence, from_logits, name, **kwargs)
        self.epsilon = check_number("epsilon", epsilon, low=0, open_low=True)
        self.iterations = check_integer("iterations", iterations, low=1)
        self.xi = check_number("xi", xi, low=0, open_low=True, optional=True)
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(
            None if seed is None else _backend.seed_words(self.seed, type(self).__name__)
        )

    def compute(self, step: Any, x: Tensors, y: Tensors, y_pred: Tensors, sample_weight: Tensors) -> Tensor:
        place, inputs = step.changed_input(x)
        inputs = ops.convert_to_tensor(inputs)
        if not is_float(inputs):
            fail(
                "`VirtualAdversarial` needs inputs of a float dtype, since it adds small changes.",
                dtype=dtype_of(inputs),
            )
        fixed = keras.tree.map_structure(ops.stop_gradient, y_pred)
        masks = list(map(mask_of, keras.tree.flatten(y_pred)))  # the changed inputs may have others

        def moved(change):
            return step.run(step.with_input(x, place, inputs + ops.cast(change, inputs.dtype)))

        direction = _unit(keras.random.normal(ops.shape(inputs), dtype="float32", seed=self.seed_generator))
        length = self._length(inputs, step)
        # A sum, since gradients of the mean over a large batch underflow in half precision.
        count = ops.cast(ops.shape(inputs)[0], "float32")
        for _ in range(self.iterations):
            (gradient,) = _backend.gradients_at(
                lambda values: count * self.between(step, fixed, moved(length * values[0]), masks), [direction]
            )
            found = _unit(ops.cast(gradient, "float32"))
            # If the change of the outputs is too small for the dtype, keep the direction.
            direction = ops.where(_largest(found) > 0, found, direction)
        return self.between(step, fixed, moved(ops.stop_gradient(self.epsilon * direction)), masks)

    def _length(self, inputs, step):
        """Returns xi for each example: a share of the norm of its inputs that the dtype resolves."""
        if self.xi is not None:
            return self.xi
        least = float(np.finfo("float32").eps if step.model.compute_dtype in ("float32", "float64") else 2.0**-10)
        norm = ops.sqrt(_sum(ops.square(ops.cast(inputs, "float32"))))
        size, examples = (ops.cast(number, "int32") for number in (ops.size(inputs), ops.shape(inputs)[0]))
        count = ops.cast(size // ops.maximum(examples, 1), "float32")
        return np.sqrt(least) * ops.maximum(norm, 1e-3 * ops.sqrt(count))

    def save_assets(self, folder: Any) -> None:
        """Saves the number of draws, so that after loading, a seeded penalty continues with the next direction."""
        state = ops.convert_to_numpy(self.seed_generator.state.value)
        pathlib.Path(folder, POSITION).write_text(json.dumps([int(word) for word in state]))

    def load_assets(self, folder: Any) -> None:
        path = pathlib.Path(folder or "", POSITION)
        if self.seed is None or not folder or not path.is_file():
            return
        state = json.loads(path.read_text())
        if not isinstance(state, list) or len(state) != 2 or not all(is_integer(word) for word in state):
            fail(f"The file must contain the two integers of the seed of `{self.name}`.", position=state)
        self.seed_generator.state.assign(state)

    def get_config(self) -> Config:
        plain = {"epsilon": self.epsilon, "iterations": self.iterations, "xi": self.xi, "seed": self.seed}
        return {**super().get_config(), **plain}


def _sum(array):
    return ops.sum(array, axis=tuple(range(1, len(array.shape))), keepdims=True)


def _largest(array):
    return ops.max(ops.abs(array), axis=tuple(range(1, len(array.shape))), keepdims=True)


def _unit(array):
    """Returns an array of norm 1 for each example, or 0 if it is 0. Its scale does not matter."""
    largest = _largest(array)
    array = array / ops.where(largest > 0, largest, 1.0)
    norm = ops.sqrt(_sum(ops.square(array)))
    return array / ops.where(norm > 0, norm, 1.0)
