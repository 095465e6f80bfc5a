from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_reg import _backend
from keras_reg._masks import masked_like
from keras_reg._random_state import KeepsPosition
from keras_reg._renamed import renamed
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg._validation import check_integer, check_seed, fail, native
from keras_reg.inference._inference_model import InferenceModel, check_one_array, check_trained
from keras_reg.inference._passes import Moments
from keras_reg.inference._stays_random import KINDS, network_that_draws, seed_from, seeds_of
from keras_reg.training._networks import is_graph


@keras.saving.register_keras_serializable(package="keras_reg")
class MonteCarlo(KeepsPosition, InferenceModel):
    """Predicts with dropout and noise switched on, and returns the mean and the uncertainty of the predictions.

    Each sample is one pass of the network with new random numbers. Layers with statistics, such as batch normalization,
    stay in inference mode. The weights are shared with `model`, and its statistics and seeds are not changed: this
    model has its own random generator, from which each batch gets new random numbers.

    `evaluate` uses the mean in the form of the output of `model`. If `model` is compiled, this model is compiled with
    the same loss and metrics.

    Args:
        model: A trained Functional or Sequential model with one output.
        samples: Number of passes, at least 2.
        random_layers: Which layers stay random. "all" selects all layers that draw random numbers in training, except
            augmentations and batch normalization. "dropout" selects all of these except noise and pooling. "noise"
            selects `GaussianNoise` and `WeightNoise`. A list of names selects these layers.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled loss, or else from the
            last activation. Without a loss, outputs are those of a regression, unless the last layer has a softmax or
            a sigmoid. If neither tells, several numbers per example are classes that exclude each other.
        seed: Integer of at least 0, or `None`. With a seed, the random numbers are reproducible.
        **kwargs: Further arguments of `keras.Model`, such as `name`.

    Call arguments:
        inputs: The inputs of `model`.

    Input shape:
        The input shape of `model`.

    Output shape:
        A dict. "mean" and "variance" have the output shape of `model`, and are those of the probabilities of a
        classifier, or of the outputs of a regression. The variance is the unbiased estimate from the samples. For a
        classifier, the dict also has "entropy", which is that of the mean, and "mutual_information", which is this
        entropy minus the mean entropy of the samples: the part of the uncertainty that is due to the network. Both are
        in nats and do not have the last axis.

    Raises:
        ValueError: If an argument is invalid, if `model` is a subclassed model, or if none of its layers draws
            random numbers.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> parts = [keras.layers.Dropout(0.5), keras.layers.Dense(3, "softmax")]
    >>> model = inference.MonteCarlo(keras.Sequential([keras.Input((8,)), *parts]), samples=10)
    >>> sorted(model.predict(np.ones((5, 8)), verbose=0))
    ['entropy', 'mean', 'mutual_information', 'variance']

    References:
        - [Dropout as a Bayesian Approximation](https://arxiv.org/abs/1506.02142) (Gal and Ghahramani, 2016).
    """

    without_loss = "numbers"

    @renamed(n="samples", num_samples="samples")
    def __init__(
        self,
        model: keras.Model,
        samples: int = 20,
        random_layers: str | Sequence[str] = "all",
        from_logits: bool | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        samples = check_integer("samples", samples, low=2)
        random_layers = _check_selection(random_layers)
        seed = check_seed(seed)
        check_trained(model)
        super().__init__(model, from_logits, **kwargs)
        if not is_graph(self.network):
            fail("`model` must be a Functional or Sequential model.", model=type(self.network).__name__)
        self.samples, self.random_layers = samples, random_layers
        self._set_seed(seed)
        self._drawing = Drawing(self.network, random_layers)

    def call(self, inputs: Tensors, training: bool | None = None) -> dict[str, Tensor]:
        key = self.random.key()
        first = check_one_array(self._drawing.run(inputs, _backend.fold(key, 0)), self.model)
        moments = Moments(self.distribution(first))

        def add_pass(number, sums):
            return moments.added(sums, number, self._drawing.run(inputs, _backend.fold(key, number)))

        found = moments.found(ops.fori_loop(1, self.samples, add_pass, moments.of_first(first)), self.samples)
        return {**found, "mean": masked_like(found["mean"], [first])}

    def compute_output_spec(self, inputs: Tensors, training: bool | None = None) -> Any:
        output = self.network.compute_output_spec(inputs)
        moments = Moments(self.distribution(check_one_array(output, self.model)))
        return moments.spec(output)

    def compute_loss(
        self,
        x: Tensors = None,
        y: Tensors = None,
        y_pred: Any = None,
        sample_weight: Tensors = None,
        training: bool | None = True,
    ) -> Tensor:
        y_pred = self._as_output(y_pred)
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    def compute_metrics(self, x: Tensors, y: Tensors, y_pred: Any, sample_weight: Tensors = None) -> dict[str, Any]:
        return super().compute_metrics(x, y, self._as_output(y_pred), sample_weight)

    def _as_output(self, found):
        """Returns the mean in the form of the output of the network."""
        distribution = self.distribution(found["mean"])
        return masked_like(Moments(distribution).as_output(found["mean"]), [found["mean"]])

    def get_config(self) -> Config:
        own = {"samples": self.samples, "random_layers": self.random_layers, "seed": self.seed}
        return {**super().get_config(), **own}


class Drawing:
    """The network whose layers stay random. Keras does not track it, since it shares the layers of the trained one."""

    def __init__(self, network, random_layers):
        self.original, self.network = network, network_that_draws(network, random_layers)

    def run(self, inputs, key):
        """Returns the outputs of one pass, whose random numbers follow from `key`. No state is changed."""
        seeds = {id(seed): number for number, seed in enumerate(seeds_of(self.original))}
        values, sources = [], []
        for variable in self.original.variables:
            number = seeds.get(id(variable))
            if number is None:
                values.append((variable, variable.value))
                continue
            of_layer = _backend.fold(key, number)
            values.append((variable, seed_from(of_layer, variable)))
            sources += [(source, of_layer) for source in _backend.random_sources([variable])]
        with (
            keras.StatelessScope(values),
            _backend.given_keys(sources),
            _backend.framework_seeded(_backend.fold(key, len(seeds))),
        ):
            return self.network(inputs, training=False)


def _check_selection(random_layers):
    found = native(random_layers)
    if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) for name in found):
        return found
    if not isinstance(found, str) or found not in KINDS:
        fail('`random_layers` must be "all", "dropout", "noise" or a list of names.', random_layers=random_layers)
    return found
