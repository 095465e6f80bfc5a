"""A model that computes its losses and metrics for mixed labels."""

import functools
from typing import Any

import keras

from keras_reg._outputs import naming_missing_labels
from keras_reg._typing import Config, Tensor, Tensors
from keras_reg.losses._hint import warn_of_nan
from keras_reg.training._arrays import in_form_of, labels_in_form
from keras_reg.training._labels import check_not_ids
from keras_reg.training._mixture import Mixture, unwrapped, wrap_losses
from keras_reg.training._own_steps import compile_network, named_arguments
from keras_reg.training._own_train_step import OwnTrainStep


class Given:
    """The arguments of the last `compile`. Keras does not track them here, so they remain the objects passed."""

    def __init__(self, arguments):
        self.arguments = arguments


class MixtureModel(OwnTrainStep):
    """A model whose `compute_loss` and `compute_metrics` also accept a `Mixture` in place of labels."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._given = Given({})
        self._told_of_nan = False

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles this model like the network, with the arguments of the network's `compile`.

        A network that overrides its loss or its training step is compiled too.
        """
        has_own_steps = self.has_own_loss or self.has_own_train_step
        given = named_arguments(self.model.compile if has_own_steps else super().compile, args, kwargs)
        if has_own_steps:
            compile_network(self.model, given, mixed=self.has_own_loss)
            self.compile_like_network()
        else:
            super().compile(**{**given, "loss": wrap_losses(given.get("loss"))})
        self._given, self._told_of_nan = Given(given), False
        if self.given_loss is not None:
            object.__setattr__(
                self, "loss", self.given_loss
            )  # the user's object, which Keras would replace to track it

    @property
    def given_loss(self):
        """The `loss` argument of `compile`."""
        return self._given.arguments.get("loss")

    def get_compile_config(self) -> Config | None:
        if self.compiled and (self.has_own_loss or self.has_own_train_step):
            return keras.saving.serialize_keras_object(self._given.arguments)
        return unwrapped(super().get_compile_config())

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
            mixture, y = y, y.as_labels(functools.partial(self._in_form, y_pred))
            if mixture.weights is None:
                check_not_ids(y, y_pred)
        else:
            y = self._in_form(y_pred, y)
        if self.given_loss is not None:
            names = getattr(self, "output_names", None) or ()
            sample_weight = in_form_of(y_pred, sample_weight, "sample_weight", names)
        return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    def _in_form(self, y_pred, y):
        return y if self.given_loss is None else labels_in_form(y_pred, y)

    def get_metrics_result(self) -> dict[str, Any]:
        results = super().get_metrics_result()
        if not self._told_of_nan and "loss" in results:
            self._told_of_nan = warn_of_nan(self.given_loss, results["loss"])
        return results

    def compute_metrics(self, x: Tensors, y: Tensors, y_pred: Tensor, sample_weight: Tensors = None) -> dict[str, Any]:
        y = y.dominant if isinstance(y, Mixture) else y
        with naming_missing_labels(self.model, "y"):
            return super().compute_metrics(x, y, y_pred, sample_weight)
