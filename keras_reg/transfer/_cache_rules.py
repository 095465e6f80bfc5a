"""When the features of a frozen backbone cannot be computed once for all epochs, and why."""

import dataclasses

import keras
import numpy as np
from keras import tree

from keras_reg._inner_layers import inside
from keras_reg._masks import mask_of
from keras_reg._messages import first_of
from keras_reg.transfer._arrays import to_numpy
from keras_reg.transfer._data import batches_of
from keras_reg.transfer._layers import is_normalization
from keras_reg.transfer._passes import repeats


@dataclasses.dataclass(frozen=True)
class Reason:
    """The reason why features are not computed once. If it is `soft`, `cache_features=True` overrides it."""

    text: str
    soft: bool = False


def reason_in_settings(phase, parts, plan):
    """Returns the `Reason` that holds for a phase whatever the data are, or `None`."""
    if phase.unfreeze is not None:
        return Reason("the backbone trains")
    if phase.cache_features is False:
        return Reason("cache_features=False")
    if parts.augmentation is not None:
        return Reason("the augmentation before the backbone changes the images in every epoch")
    if parts.extractor.trainable_variables:
        return Reason("weights before the head train")
    if plan.fit_arguments.get("steps_per_epoch"):
        return Reason("steps_per_epoch takes other images in every epoch")
    if any(isinstance(callback, keras.callbacks.ModelCheckpoint) for callback in [*phase.callbacks, *plan.callbacks]):
        return Reason("ModelCheckpoint would save the head only")
    if any(getattr(layer, "activity_regularizer", None) for layer in inside(parts.extractor)):
        return Reason("the backbone adds to the loss")
    random = [layer.name for layer in inside(parts.extractor) if is_random(layer)]
    if random:
        are = "is" if len(random) == 1 else "are"
        return Reason(f"{first_of(random, 3)} before the head {are} random", soft=True)
    return Reason("the phase has only one epoch", soft=True) if phase.epochs == 1 else None


def reason_in_data(extractor, train, validation):
    """Returns (the `Reason` for these data or `None`, whether the training data are shuffled)."""
    found = [repeats(data) for data in (train, validation) if data is not None]
    shuffled = found[0] == "another order"
    if "nothing" in found:
        return Reason("the data can be iterated only once"), shuffled
    if "other examples" in found:
        return Reason("the data contain other images or labels in every pass, as after an augmentation"), shuffled
    first = next(batches_of(train))[0]
    if mask_of(extractor(tree.map_structure(lambda array: array[:1], first), training=False)) is not None:
        return Reason("the features have a Keras mask, which the head needs as well"), shuffled
    if depends_on_training(extractor, first):
        return Reason("a frozen layer before the head computes something else in training", soft=True), shuffled
    return None, shuffled


def is_random(layer):
    """Returns whether a layer draws random numbers in training, judging by its seed and by rates of 0."""
    if is_normalization(layer) and not layer.trainable:
        return False  # as in inference
    values = [item for value in vars(layer).values() for item in (value if isinstance(value, list) else [value])]
    if not any(isinstance(value, keras.random.SeedGenerator) for value in values):
        return False
    found = [
        getattr(layer, name, None) for name in ("rate", "stddev", "drop_path_rate", "dropout", "recurrent_dropout")
    ]
    rates = [rate for rate in found if isinstance(rate, (int, float))]
    return not rates or any(rates)


def depends_on_training(extractor, x):
    """Returns whether layers from elsewhere than Keras compute something else in training although they are frozen."""
    if all(type(layer).__module__.split(".")[0] in ("keras", "keras_reg") for layer in inside(extractor)):
        return False
    few = tree.map_structure(lambda array: array[:4], x)
    a, b = (to_numpy(extractor(few, training=training)) for training in (True, False))
    return not np.allclose(a.astype("float32"), b.astype("float32"), rtol=1e-3, atol=1e-5)
