from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_reg._masks import masked_like
from keras_reg._validation import check_choice, check_flag, fail, is_number, native
from keras_reg.inference._inference_model import check_one_array, check_predictions, check_trained
from keras_reg.inference._inputs import inputs_like
from keras_reg.inference._merging import merged
from keras_reg.training._copies import compile_config_of, network_of
from keras_reg.training._networks import as_functional, is_graph
from keras_reg.training._what_outputs_mean import distribution_of

COMBINES = ("mean", "logits", "vote", "median")
WEIGHTED = ("mean", "logits", "vote")


def ensemble(
    models: Sequence[keras.Model],
    combine: Literal["mean", "logits", "vote", "median"] = "mean",
    member_weights: Sequence[float] | None = None,
    from_logits: bool | None = None,
) -> keras.Model:
    """Returns one model whose output combines the outputs of several trained models.

    The result is a plain Functional model around its members, whose weights it shares. It is saved as one model, which
    loads without this package if the layers of its members do and their outputs cannot have a Keras mask; with a loss
    or a metric of this package, load it with `compile=False`. Its output has the form of the members' outputs: logits
    stay logits. If the first member is compiled, the result is compiled with the same loss and metrics, provided that
    Keras can serialize them and the optimizer. Members with equal names are numbered.

    Args:
        models: List of trained models with the same inputs and one output of the same form and shape. Several inputs
            with the same names are matched by name, and others by position.
        combine: "mean" averages probabilities, or the outputs of a regression. "logits" averages logits, which is the
            normalized geometric mean of the probabilities. "vote" gives the share of the members that predict a class.
            "median" takes the median of each probability, normalized for classes that exclude each other, or of the
            outputs of a regression.
        member_weights: List of one weight per model, each at least 0. They are divided by their sum, and models with
            weight 0 are left out. "median" does not support weights.
        from_logits: Whether the outputs are logits. With `None`, this is read from the compiled losses, or else from
            the last activations. If neither tells, several numbers per example are classes that exclude each other.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If the models cannot be combined, such as one with logits and one with probabilities, or if it is
            not known whether their outputs are logits.

    Example:

    >>> import keras, numpy as np
    >>> from keras_reg import inference
    >>> build = lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> members, x = [build() for _ in range(5)], np.ones((2, 4))
    >>> mean = np.mean([member.predict(x, verbose=0) for member in members], axis=0)
    >>> np.allclose(inference.ensemble(members).predict(x, verbose=0), mean, atol=1e-6)
    True

    References:
        - [Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles](https://arxiv.org/abs/1612.01474)
          (Lakshminarayanan et al., 2017).
    """
    if isinstance(combine, keras.Model):
        fail("`models` must be a list: the second argument is `combine`.", models=models, combine=combine)
    combine = check_choice("combine", combine, COMBINES)
    from_logits = None if from_logits is None else check_flag("from_logits", from_logits)
    models, weights = _members(models, member_weights, combine)
    networks = list(map(network_of, models))
    inputs = inputs_like(networks[0])
    members = _with_different_names(networks)
    try:
        outputs = [check_one_array(member(_in_order(inputs, member)), member) for member in members]
    except (TypeError, ValueError) as error:
        fail(f"All `models` must accept the inputs of the first one, and return one array: {error}",
             models=[model.name for model in models])  # fmt: skip
    shapes = [tuple(output.shape) for output in outputs]
    if len({*shapes}) > 1:
        fail("All `models` must have outputs of one shape.", shapes=shapes)
    found = [_distribution(*pair, from_logits) for pair in zip(models, outputs, strict=True)]
    if any(one != found[0] for one in found):
        fail(
            "All `models` must return logits, or all probabilities, or all outputs of a regression.",
            outputs=[_in_words(one) for one in found],
        )
    output = masked_like(merged(outputs, combine, found[0], weights), outputs, networks)
    combined = keras.Model(inputs, output, name="ensemble")
    config = compile_config_of(models[0])
    if config:
        combined.compile(**config)
    return combined


def _members(models, member_weights, combine):
    """Returns the models with a weight above 0, and their weights with a sum of 1."""
    is_list = isinstance(models, (list, tuple)) and len(models) > 0
    if not is_list or not all(isinstance(model, keras.Model) for model in models):
        fail("`models` must be a list of at least one `keras.Model`.", models=models)
    for model in models:
        check_trained(model)
        check_predictions(model, "`ensemble`", "models")
        if not getattr(network_of(model), "inputs", None):
            fail("`models` must state their inputs: Functional or Sequential models.", model=model.name)
    if member_weights is None:
        return list(models), None
    weights: Any = native(member_weights)
    right = isinstance(weights, (list, tuple)) and len(weights) == len(models) and all(map(is_number, weights))
    if not right or min(weights) < 0 or not sum(weights) > 0:
        fail(
            "`member_weights` must be one number of at least 0 per model, and not all 0.", member_weights=member_weights
        )
    if combine not in WEIGHTED:
        fail('`member_weights` must be None with combine="median".', member_weights=member_weights)
    pairs = [(model, weight / sum(weights)) for model, weight in zip(models, weights, strict=True) if weight > 0]
    return [model for model, _ in pairs], [weight for _, weight in pairs]


def _in_order(inputs, member):
    """Returns a list of inputs in the order in which a model with the same names states them."""
    if not isinstance(inputs, (list, tuple)):
        return inputs
    by_name, names = {tensor.name: tensor for tensor in inputs}, [tensor.name for tensor in member.inputs]
    return [by_name[name] for name in names] if set(by_name) == set(names) and len(names) == len(inputs) else inputs


def _with_different_names(networks):
    """Returns models with the same layers that are not compiled. Those of equal names get a number."""
    names, found = [network.name for network in networks], []
    for number, network in enumerate(networks):
        name = network.name if names.count(network.name) == 1 else f"{network.name}_member_{number}"
        if is_graph(network):
            network = as_functional(network, name)
        elif name != network.name:
            inputs = inputs_like(network)
            network = keras.Model(inputs, network(inputs), name=name)
        found.append(network)
    return found


def _in_words(distribution):
    if distribution is None:
        return "regression"
    return "logits" if distribution.from_logits else "probabilities"


def _distribution(model, output, from_logits):
    return distribution_of(network_of(model), getattr(model, "loss", None), output, from_logits)
