import inspect
from typing import Any, Self

import keras

from keras_reg._backend import KeepsStateAfterErrors
from keras_reg._overrides import PREDICTION, check_not_bypassed
from keras_reg._typing import Config, Tensors
from keras_reg._validation import check_flag, fail
from keras_reg.training._copies import compile_config_of, network_of
from keras_reg.training._networks import options_like
from keras_reg.training._what_outputs_mean import distribution_of


class InferenceModel(KeepsStateAfterErrors, keras.Model):
    """Base class of models around a trained model, which predict and evaluate but do not train.

    If the trained model is compiled, the model around it is compiled with the same loss and metrics.

    Args:
        model: The trained model, which has one output.
        from_logits: Whether its outputs are logits. With `None`, this is read from its loss, or else from its last
            activation.
        **kwargs: Arguments of `keras.Model`.
    """

    # What outputs are without a loss, a layer or an argument that tells: an argument of `distribution_of`.
    without_loss: str | None = None

    def __init__(self, model: keras.Model, from_logits: bool | None = None, **kwargs: Any) -> None:
        check_trained(model)
        check_predictions(model, f"`{type(self).__name__}`")
        from_logits = None if from_logits is None else check_flag("from_logits", from_logits)
        super().__init__(**options_like(model, kwargs))
        self.model, self.from_logits = model, from_logits
        self.built = True
        config = compile_config_of(model)
        if config:
            self.compile(**config)

    def build(self, input_shape: Any = None) -> None:
        self.built = True

    @property
    def network(self):
        """The network that computes the outputs."""
        return network_of(self.model)

    def distribution(self, output):
        """Returns the `Distribution` of an output of the trained model, or `None` if it is a regression."""
        loss = getattr(self.model, "loss", None)
        loss = getattr(self, "loss", None) if loss is None else loss
        return distribution_of(self.network, loss, output, self.from_logits, self.without_loss)

    def make_train_function(self, force: bool = False) -> None:
        """Refuses to train."""
        fail(
            f"`{type(self).__name__}` does not train. Train `model` instead, which shares its weights.",
            model=self.model.name,
        )

    def export(self, filepath: Any, *args: Any, input_signature: Any = None, **kwargs: Any) -> Any:
        """Exports the predictions, by default for the inputs of the trained model. See `keras.Model.export`."""
        network = self.network
        if input_signature is None and getattr(network, "inputs", None):
            inputs = network.inputs[0] if isinstance(network, keras.Sequential) else network.input
            specs = keras.tree.map_structure(lambda x: keras.InputSpec(shape=x.shape, dtype=x.dtype), inputs)
            input_signature = specs if isinstance(specs, list) and len(specs) == 1 else [specs]
        return super().export(filepath, *args, input_signature=input_signature, **kwargs)

    def get_config(self) -> Config:
        parts = {"dtype": self.dtype_policy, "model": self.model}
        plain = {"name": self.name, "trainable": self.trainable, "from_logits": self.from_logits}
        return {**plain, **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}}

    @classmethod
    def from_config(cls, config: Config, custom_objects: Config | None = None) -> Self:
        config = {
            name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            for name, value in config.items()
        }
        return cls(**config)


def check_trained(model):
    """Checks that a model is built and has one output."""
    if not isinstance(model, keras.Model):
        fail("`model` must be a `keras.Model`.", model=model)
    network = network_of(model)
    if not network.built:
        fail("`model` must be built. Fit it or call it on data first.", model=model.name)
    if isinstance(network, keras.Function) and (len(network.outputs) != 1 or isinstance(network.output, dict)):
        fail(
            "`model` must have one output, which is not in a dict. Take one of several outputs, or that of a dict, "
            "with `keras.Model(model.input, model.outputs[0])`.",
            outputs=sorted(network.output) if isinstance(network.output, dict) else len(network.outputs),
        )


def check_predictions(model, caller, argument="model"):
    """Checks that calls of the network are its predictions: nothing else changes what `predict` returns."""
    check_not_bypassed(network_of(model), PREDICTION, caller, argument)


def check_one_array(outputs, model):
    """Returns the one array that a model has returned, which may be in a list, after a check."""
    outputs = outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs
    if not hasattr(outputs, "shape"):
        fail("`model` must return one array.", outputs=type(outputs).__name__, model=model.name)
    return outputs


def infer(model, inputs: Tensors):
    """Calls a model in inference mode. A subclassed one may not take `training`."""
    takes_training = "training" in inspect.signature(model.call).parameters
    return model(inputs, training=False) if takes_training else model(inputs)
