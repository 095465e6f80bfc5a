import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_reg._messages import say
from keras_reg._overrides import EVALUATION, LOSS, LOSS_ON_JAX, PREDICTION, TRAINING, check_not_bypassed
from keras_reg._renamed import renamed
from keras_reg._strength import Strength
from keras_reg._typing import StrengthLike
from keras_reg._validation import check_choice, check_flag, check_number, check_seed, fail, is_number
from keras_reg.layers import NoisyBatchNormalization
from keras_reg.surgery._graph import is_graph
from keras_reg.surgery._rewrite import BIASES, KERNELS, NORMALIZATION, Rewriter
from keras_reg.surgery._surgeon import Surgeon

REMEDY = "Regularize `keras.Model(model.input, model.output)`, and create your class from the copy."
NOISE = ("stddev", "noise", "virtual_batch_size")


@renamed(l1="kernel_l1", l2="kernel_l2", weight_decay="kernel_l2")
def regularize(
    model: keras.Model,
    kernel_l1: float | None = None,
    kernel_l2: float | None = None,
    bn_noise: StrengthLike | Mapping[str, Any] | None = None,
    dropout: float | None = None,
    drop_path: StrengthLike | None = None,
    spatial_dropout: float | None = None,
    penalize_biases: bool = False,
    penalize_normalization: bool = False,
    seed: int | None = None,
    dry_run: bool = False,
    verbose: bool = False,
) -> keras.Model | None:
    """Copies a model and adds regularizers: the copy has the same weights, names and inference, but trains differently.

    Nested models are copied too, shared layers stay shared, and layers inside wrappers are changed as well. Layers
    inside a custom layer are not, and the report says so. An argument of `None` changes nothing. The copy is a plain
    Functional or Sequential model, and is not compiled. It has the current weights of the original, so load a weight
    file into the original before you copy it. The original is not changed.

    Frozen weights stay frozen. Quantized layers stay quantized, and their integer kernels are not penalized.

    The layers keep their names. Their order changes around a drop path, since Keras sorts layers by their longest path
    to the output: copy weights between the two models by name, not with `set_weights`.

    Args:
        model: A built Functional or Sequential model.
        kernel_l1, kernel_l2: Penalties on every kernel, which replace existing ones. 0 removes them.
        bn_noise: Turns every `BatchNormalization` into a `NoisyBatchNormalization` with this `stddev`, a number or a
            `Strength`, or with a dict of the arguments `stddev`, `noise` and `virtual_batch_size`.
        dropout: Rate in [0, 1] of a dropout before the head, which is the last dense layer (or the convolution of a
            pooled map) if only layers such as activations follow it. An existing dropout there gets this rate.
        drop_path: Rate in [0, 1], or `Strength`, of `DropPath` on the branches of residual additions. It grows linearly
            from 0 at the first addition. An addition is residual if it adds a tensor, or its projection, to a branch
            that is computed from this tensor only. Branches that already have a drop path are not changed.
        spatial_dropout: Rate in [0, 1] of a spatial dropout after each pooling that is not global.
        penalize_biases, penalize_normalization: Whether biases, and `gamma` and `beta` of normalizations, are
            penalized like kernels.
        seed: Integer of at least 0, or `None`. Every added layer gets its own seed from it.
        dry_run: Whether to only print the planned changes.
        verbose: Whether to print the changes.

    Returns:
        The copy, or `None` with `dry_run=True`.

    Raises:
        ValueError: If an argument is out of range, `model` is not Functional or Sequential or overrides a method such
            as `train_step`, which the copy would not have, if one of its layers cannot be recreated from its config, or
            if a layer in a wrapper is also used outside of it.

    Example:

    >>> import keras, keras_reg
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> keras_reg.surgery.regularize(model, kernel_l2=1e-4, dropout=0.5, dry_run=True)
    head: kernel penalized
    head: dropout 0.5 before it
    """
    kernel_l1, kernel_l2 = _number("kernel_l1", kernel_l1), _number("kernel_l2", kernel_l2)
    dropout, spatial_dropout = _number("dropout", dropout, 1), _number("spatial_dropout", spatial_dropout, 1)
    drop_path = drop_path if isinstance(drop_path, Strength) else _number("drop_path", drop_path, 1)
    _number("drop_path", getattr(drop_path, "value", drop_path), 1)
    penalize_biases = check_flag("penalize_biases", penalize_biases)
    penalize_normalization = check_flag("penalize_normalization", penalize_normalization)
    seed, dry_run = check_seed(seed), check_flag("dry_run", dry_run)
    check_choice("verbose", verbose, (True, False, 0, 1))
    if not is_graph(model):
        fail("`model` must be a built Functional or Sequential model.", model=model)
    check_not_bypassed(model, (*TRAINING, *EVALUATION, *PREDICTION, *LOSS, *LOSS_ON_JAX), "the copy", remedy=REMEDY)
    has_penalty = kernel_l1 is not None or kernel_l2 is not None
    penalty = keras.regularizers.L1L2(kernel_l1 or 0.0, kernel_l2 or 0.0) if has_penalty else None
    penalized = KERNELS + BIASES * penalize_biases + NORMALIZATION * penalize_normalization
    rewriter = Rewriter(penalty, penalized, _noise_arguments(bn_noise))
    surgeon = Surgeon(rewriter, dropout, drop_path, spatial_dropout, seed)
    surgeon.plan(model)
    if dry_run or verbose:
        (print if dry_run else say)("\n".join(surgeon.report or ["Nothing to do."]))
    elif surgeon.changes_nothing() and any((kernel_l1, kernel_l2, bn_noise, dropout, drop_path, spatial_dropout)):
        why = "; ".join(surgeon.report) or "it has no layers that the arguments concern"
        warnings.warn(f"`regularize` changes nothing in `{model.name}`: {why}.", stacklevel=2)
    return None if dry_run else surgeon.operate(model)


def _number(name, value, high=math.inf):
    return check_number(name, value, 0, high, optional=True)


def _noise_arguments(bn_noise):
    """Returns arguments of `NoisyBatchNormalization` for a config, given a dict of arguments or only its `stddev`."""
    if bn_noise is None:
        return None
    arguments = bn_noise if isinstance(bn_noise, dict) else {"stddev": bn_noise}
    stddev = arguments.get("stddev", 0)
    if set(arguments) - set(NOISE) or not (isinstance(stddev, Strength) or is_number(stddev)):
        fail(f"`bn_noise` must be a number, a `Strength` or a dict of {', '.join(NOISE)}.", bn_noise=bn_noise)
    if arguments is not bn_noise and not isinstance(stddev, Strength):
        check_number("bn_noise", stddev, 0)
    made = NoisyBatchNormalization(**arguments).get_config()
    return {name: made[name] for name in NOISE}
