import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_reg import _direction
from keras_reg._messages import say
from keras_reg._moving_statistics import check_data, refresh_statistics
from keras_reg._overrides import EVALUATION, LOSS, LOSS_ON_JAX, PREDICTION
from keras_reg._validation import check_choice, check_flag, check_verbose, fail
from keras_reg.inference._architectures import averaged_weights, networks_of
from keras_reg.inference._data import check_evaluation_data, logs_on
from keras_reg.training._copies import check_copied, compile_config_of, copied, network_of, put_weights


def soup(
    models: Sequence[keras.Model],
    validation_data: Any = None,
    greedy: bool = True,
    metric: str | keras.Metric | None = None,
    mode: Literal["auto", "min", "max"] = "auto",
    data: Any = None,
    verbose: int = 0,
) -> keras.Model:
    """Returns a new model whose weights are the mean of the weights of several trained models.

    It costs no more than one of them. The models must have the same architecture and start from the same weights, such
    as a pretrained network that was trained further with different learning rates, augmentations or seeds. The mean of
    networks that started from different weights is useless.

    With `greedy=True`, the models are sorted by their validation metric. The soup starts with the best one. Each of the
    others is added if the metric of the mean does not get worse. So on the validation data, the result is at least as
    good as the best model. With `greedy=False`, the result is the mean of all models.

    Batch normalization needs the statistics that belong to the averaged weights. With `data`, such as the training
    images, they are computed anew for each mean: the mean and the variance of the inputs over all of `data`. Without
    `data`, the moving statistics are averaged like weights. States of random generators and `keras_reg.Strength` values
    are not averaged.

    The given models do not change. The result is compiled with the loss and the metrics of the first one.

    Args:
        models: List of trained models of the same architecture. Layers without weights that do nothing in inference,
            such as dropout, may differ. Of a `RegularizedModel`, the network is used.
        validation_data: A tuple (x, y) or (x, y, sample_weight) of arrays, or a finite dataset of such batches that can
            be iterated repeatedly. Only used with `greedy=True`.
        greedy: Whether to leave out models that make the metric worse.
        metric: Name of the loss or of a metric that the first model was compiled with, or a `keras.Metric`. `None` is
            the loss. With several outputs, it is a name, such as "output_accuracy".
        mode: "min", "max" or "auto": whether smaller or larger values of the metric are better. "auto" is the direction
            of the Keras metric, and "min" for names that end in "loss".
        data: Data for the statistics of batch normalization: arrays x, (x, y) or (x, y, sample_weight), or a dataset
            that can be iterated repeatedly. Labels are not used.
        verbose: 1 prints the metric of each model, and whether it is in the soup.

    Returns:
        A `keras.Model`, a copy of the first model with other weights.

    Raises:
        ValueError: If the models do not have the same architecture, if the first one is not compiled although
            `greedy=True`, or if there is no such metric or its direction is not known.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> models = [keras.models.clone_model(network) for _ in range(3)]
    >>> mean = np.mean([model.get_weights()[0] for model in models], axis=0)
    >>> np.allclose(inference.soup(models, greedy=False).get_weights()[0], mean, atol=1e-6)
    True

    References:
        - [Model soups](https://arxiv.org/abs/2203.05482) (Wortsman et al., 2022), recipe 1.
    """
    greedy, mode = check_flag("greedy", greedy), check_choice("mode", mode, ("auto", "min", "max"))
    verbose = check_verbose(verbose)
    networks = networks_of(models)
    check_copied(networks[0], (*PREDICTION, *EVALUATION, *LOSS, *LOSS_ON_JAX), argument="models")
    if data is not None:
        check_data(data)
    bowl = Bowl(networks, data)
    if greedy:
        bowl.model.compile(**_compile_arguments(models[0], metric))
        chosen = _Selection(bowl, validation_data, metric, mode, verbose).run()
    else:
        chosen = range(len(networks))
    bowl.fill(chosen)
    config = compile_config_of(models[0])
    if config:
        bowl.model.compile(**config)
    return bowl.model


class Bowl:
    """A copy of the first network, which takes the mean of the weights of some of the networks.

    Args:
        networks: Networks of the same architecture.
        data: Data for the statistics of batch normalization, or `None`.
    """

    def __init__(self, networks, data):
        self.data = data
        self.members = [
            [np.array(ops.convert_to_numpy(weight)) for weight in averaged_weights(network)] for network in networks
        ]
        self.model = copied(networks[0])

    def fill(self, numbers):
        """Puts the mean of the networks with these numbers into the model."""
        members = [self.members[number] for number in numbers]
        put_weights(self.model, [_mean(arrays) for arrays in zip(*members, strict=True)], averaged_weights(self.model))
        if len(members) > 1 and self.data is not None:
            self._refresh()

    def _refresh(self):
        try:
            refresh_statistics(self.model, self.data)
        except (TypeError, ValueError) as error:
            fail(f"`data` must be inputs of the models: {textwrap.shorten(str(error), 300)}",
                 data=type(self.data).__name__)  # fmt: skip


class _Selection:
    """The greedy choice of the networks, by a metric of the model in the bowl."""

    def __init__(self, bowl, validation_data, metric, mode, verbose):
        self.bowl, self.data, self.mode, self.verbose = bowl, check_evaluation_data(validation_data), mode, verbose
        self.metric = metric.name if isinstance(metric, keras.Metric) else metric or "loss"

    def run(self):
        """Returns the numbers of the chosen networks, the best one first."""
        scores = [self._score([0])]
        # Now the model has its metrics, since it has seen data.
        direction = _direction.find(self.metric, self.mode, self.bowl.model, "metric")
        sign = 1 if (direction or _direction.refuse(self.mode, metric=self.metric)) == "max" else -1
        scores += [self._score([number]) for number in range(1, len(self.bowl.members))]
        order = sorted(range(len(scores)), key=lambda number: _sortable(sign * scores[number]), reverse=True)
        chosen, best = order[:1], sign * scores[order[0]]
        if not math.isfinite(best):
            fail("At least one of `models` must have a finite metric.", **{self.metric: scores})
        self._say(order[0], scores[order[0]], "in the soup")
        for number in order[1:]:
            score = self._score([*chosen, number])
            improves = sign * score >= best
            if improves:
                chosen, best = [*chosen, number], sign * score
            self._say(number, scores[number], f"{'in the soup' if improves else 'left out'}, with it {score:.6g}")
        return chosen

    def _score(self, numbers):
        self.bowl.fill(numbers)
        logs = logs_on(self.bowl.model, self.data)
        if self.metric not in logs:
            fail(f"`metric` must be one of {', '.join(map(repr, logs))}, or a `keras.Metric`.", metric=self.metric)
        value = np.asarray(logs[self.metric], "float64")
        if value.size != 1:
            fail('`metric` must be a single number. Metrics such as `F1Score` need `average="macro"`.',
                 metric=self.metric, value=value)  # fmt: skip
        return float(value.reshape(()))

    def _say(self, number, score, fate):
        if self.verbose:
            say(f"Model {number + 1}: {self.metric} {score:.6g}, {fate}.")


def _sortable(score):
    return -math.inf if math.isnan(score) else score


def _compile_arguments(model, metric):
    """Returns the losses and metrics of a model as arguments of `compile`, with `metric` if it is an object."""
    if not (isinstance(metric, (str, keras.Metric)) or metric is None) or metric == "":
        fail("`metric` must be the name of a metric, a `keras.Metric` or None.", metric=metric)
    if isinstance(metric, keras.Metric) and len(getattr(network_of(model), "outputs", None) or [None]) > 1:
        fail("With several outputs, `metric` must be the name of a metric of one of them.", metric=metric.name)
    if getattr(model, "loss", None) is None:
        fail("With `greedy=True`, the first of `models` must be compiled with a loss.", model=model.name)
    # A loss that is not registered cannot be copied. Functions have no state, so they can be shared.
    config = compile_config_of(model) or {"optimizer": "sgd", "loss": model.loss}
    return config if metric is None or isinstance(metric, str) else {**config, "metrics": [metric]}


def _mean(arrays):
    return np.mean([array.astype("float64") for array in arrays], axis=0) if len(arrays) > 1 else arrays[0]
