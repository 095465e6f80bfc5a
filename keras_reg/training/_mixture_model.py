"""A model that computes its losses and metrics for mixed labels."""

from typing import Any

import keras

from keras_reg._typing import Config, Tensor, Tensors
from keras_reg.losses._hint import warn_of_nan
from keras_reg.training._arrays import in_form_of, labels_in_form
from keras_reg.training._labels import check_not_ids
from keras_reg.training._mixture import Mixing, Mixture, wrap_losses


class MixtureModel(keras.Model):
    """A model whose `compute_loss` and `compute_metrics` also accept a `Mixture` in the place of labels."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._mixing = Mixing()
        self._told_of_nan = False

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any) -> None:
        """Compiles like `keras.Model.compile`, with the losses and metrics of `model`."""
        super().compile(optimizer, wrap_losses(loss, self._mixing), *args, **kwargs)
        self._mixing.given = loss
        self._told_of_nan = False
        if loss is not None:
            object.__setattr__(self, "loss", loss)  # the user's object, which Keras would replace to track it

    @property
    def given_loss(self):
        """The `loss` argument of `compile`."""
        return self._mixing.given

    def get_compile_config(self) -> Config | None:
        config = super().get_compile_config()
        if config:
            config["loss"] = keras.saving.serialize_keras_object(self._mixing.given)
        return config

    def compile_from_config(self, config: Config) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Tensors = None,
        y: Tensors = None,
        y_pred: Tensor = None,
        sample_weight: Tensors = None,
        training: bool | None = True,
    ) -> Tensor:
        if isinstance(y, Mixture):
            self._mixing.weights = y.weights
            y = y.labels[0] if y.weights is None else y.stacked()
            if self._mixing.weights is None:
                check_not_ids(y, y_pred)
        try:
            if self._mixing.given is not None:
                y, sample_weight = labels_in_form(y_pred, y), in_form_of(y_pred, sample_weight, "sample_weight")
            return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        finally:
            self._mixing.weights = None

    def get_metrics_result(self) -> dict[str, Any]:
        results = super().get_metrics_result()
        if not self._told_of_nan and "loss" in results:
            self._told_of_nan = warn_of_nan(self._mixing.given, results["loss"])
        return results

    def compute_metrics(self, x: Tensors, y: Tensors, y_pred: Tensor, sample_weight: Tensors = None) -> dict[str, Any]:
        y = y.dominant if isinstance(y, Mixture) else y
        return super().compute_metrics(x, y, y_pred, sample_weight)
