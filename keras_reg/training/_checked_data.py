import inspect
import warnings

import keras
import numpy as np

from keras_reg._class_weight import check_class_weight
from keras_reg.layers._batch._arrays import hold
from keras_reg.training._arrays import check_batch_sizes, hold_given, hold_inputs
from keras_reg.training._labels import check_classes
from keras_reg.training._trained_size import check_trained_size, inputs_of

DATA = ("x", "y", "sample_weight")


def _warn_of_labels_without_weight(sample_weight):
    """Warns if samples have a weight of 0, which mixing turns into a share of a label that nobody may know."""
    for weights in keras.tree.flatten(sample_weight):
        is_of_samples = hasattr(weights, "shape") and len(weights.shape) == 1
        if is_of_samples and keras.ops.is_tensor(weights):
            weights = keras.ops.convert_to_numpy(weights)
        if is_of_samples and np.any(np.asarray(weights) == 0):
            warnings.warn(
                "Samples of weight 0 still have a share in the labels of samples that they are mixed with. If their "
                "labels are not known, do not mix them.",
                stacklevel=4,
            )
            return


class ChecksData:
    """Checks the arguments of `fit`, `evaluate` and similar methods before Keras casts or moves them."""

    def fit(self, x=None, y=None, *args, **kwargs):
        x = hold_given(x, "x")
        for augmentation in self._augmentations() if hasattr(x, "shape") else ():
            augmentation._check_range(x)
        return self._on_held("fit", super().fit, x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        x, y = hold_given(x, "x"), self._with_classes(y)
        self._check_trained_size(x)
        return self._on_held("evaluate", super().evaluate, x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        x = hold_given(x, "x")
        self._check_trained_size(x)
        return self._on_held("predict", super().predict, x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        y = self._with_classes(y)
        return self._on_held_batch("train_on_batch", super().train_on_batch, x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        y = self._with_classes(y)
        return self._on_held_batch("test_on_batch", super().test_on_batch, x, y, *args, **kwargs)

    def predict_on_batch(self, x):
        return self._on_held_batch("predict_on_batch", super().predict_on_batch, x)

    def test_step(self, *state_and_data):
        self._check_step(state_and_data[-1])
        return super().test_step(*state_and_data)

    def predict_step(self, *state_and_data):
        self._check_step(state_and_data[-1])
        return super().predict_step(*state_and_data)

    def _on_held(self, called, method, *args, **kwargs):
        """Calls a method of Keras with arrays that the backend represents exactly. Anything else is left to Keras.

        Validation data are checked too, before the first epoch instead of after it.
        """
        bound = inspect.signature(method).bind(*args, **kwargs)
        given = bound.arguments
        for name in DATA:
            if name in given:
                given[name] = self._with_classes(given[name]) if name == "y" else hold_given(given[name], name)
        self._check_class_weight(given)
        if called == "fit" and getattr(self.augmentation, "_mixes", False):
            _warn_of_labels_without_weight(given.get("sample_weight"))
        validation = given.get("validation_data")
        if isinstance(validation, (tuple, list)):
            held = [hold_given(part, f"validation_data: {name}") for part, name in zip(validation, DATA, strict=False)]
            self._with_classes(held[1] if len(held) > 1 else None)
            given["validation_data"] = (*held, *validation[len(held) :])
        with self.in_method(called):
            return method(*bound.args, **bound.kwargs)

    def _on_held_batch(self, called, method, *args, **kwargs):
        """Does the same for methods that accept only arrays."""
        given = inspect.signature(method).bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if name in DATA:
                given.arguments[name] = hold_inputs(value, name) if name == "x" else hold(value, name)
        self._check_class_weight(given.arguments)
        check_batch_sizes(**{name: given.arguments.get(name) for name in DATA})
        with self.in_method(called):
            return method(*given.args, **given.kwargs)

    def _check_class_weight(self, given):
        weights = given.get("class_weight"), given.get("sample_weight")
        check_class_weight(weights[0], given.get("y"), self.model, getattr(self, "loss", None), weights[1])

    def _with_classes(self, y):
        """Returns labels as the backend holds them, after a check that their class ids are classes of the model."""
        y = hold_given(y, "y")
        check_classes(y, self.model, getattr(self, "loss", None))
        return y

    def _check_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = hold_inputs(x, "x")
        self._check_trained_size(x)
        check_batch_sizes(x, y=hold_given(y, "y"), sample_weight=hold_given(sample_weight, "sample_weight"))

    def _check_trained_size(self, x):
        if self.augmentation is None:
            return
        inputs = inputs_of(x)
        several = isinstance(inputs, (dict, list, tuple)) and len(inputs) > 1
        if inputs is not None and not (several and self.augmentation._mixes):
            check_trained_size(self.augmentation, self._find_images(inputs)[1])
