"""Rewriting the configs of layers: penalties on their weights, and noise in their batch normalizations."""

import keras

from keras_reg.layers import NoisyBatchNormalization

KERNELS = ("kernel_regularizer", "depthwise_regularizer", "pointwise_regularizer", "recurrent_regularizer")
BIASES = ("bias_regularizer",)
NORMALIZATION = ("gamma_regularizer", "beta_regularizer")


class Rewriter:
    """Turns a layer into the changed copy of it, without its weights.

    Layers inside of wrappers, and whole models there, are reached through the configs that the wrappers nest.
    """

    def __init__(self, penalty, penalized, noise):
        self.penalty = penalty and keras.regularizers.serialize(penalty)
        self.penalized = penalized
        self.noise = noise  # arguments of NoisyBatchNormalization, or None

    def rewrite(self, layer):
        """The class and the config of the changed copy, and the changes in words."""
        cls, (config, changes) = type(layer), self._rewrite(layer.get_config())
        if self.noise is not None and cls is keras.layers.BatchNormalization:
            return NoisyBatchNormalization, {**config, **self.noise}, [*changes, self._noise_in_words()]
        return cls, config, changes

    def unreached(self, layer, changes):
        """What the layer makes on its own, so that its config does not name it, in words."""
        names = [weight.name for weight in layer.weights]
        kernels = sum(name.endswith("kernel") for name in names)
        if self.penalty and kernels and not any("penalized" in change for change in changes):
            yield f"{kernels} kernels not penalized, its config names no regularizer"
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        if self.noise is not None and "moving_mean" in names and not normalizes and not any("->" in c for c in changes):
            yield "no noise, its config names no BatchNormalization"

    def _noise_in_words(self):
        used = ("stddev",) if self.noise["noise"] == "output" else ("noise", "virtual_batch_size")
        arguments = ", ".join(f"{name}={_in_words(self.noise[name])}" for name in used)
        return f"BatchNormalization -> NoisyBatchNormalization({arguments})"

    def _rewrite(self, value):
        """A copy of a config with all configs that are nested in it."""
        if isinstance(value, (list, tuple)):
            items = [self._rewrite(item) for item in value]
            kind = list if isinstance(value, list) else tuple  # also where TensorFlow tracks the list
            return kind(item for item, _ in items), [change for _, more in items for change in more]
        if not isinstance(value, dict):
            return value, []
        new, changes = {}, []
        for name, item in value.items():
            if self.penalty and name in self.penalized:
                new[name] = self.penalty
                changes.append(f"{name.removesuffix('_regularizer')} penalized")
            else:
                new[name], more = self._rewrite(item)
                changes += more
        if self.noise is not None and self._is_plain_normalization(value):
            new |= keras.saving.serialize_keras_object(NoisyBatchNormalization()) | {
                "config": {**new["config"], **self.noise}
            }
            changes.append(self._noise_in_words())
        return new, changes

    def _is_plain_normalization(self, value):
        module = str(value.get("module", ""))
        return value.get("class_name") == "BatchNormalization" and module.split(".")[0] == "keras" and "config" in value


def _in_words(value):
    """A number, or a `Strength` in its serialized form."""
    return f"Strength({value['config']['value']})" if isinstance(value, dict) else repr(value)


def copy_weights(old, new):
    """All weights of `old` to a rewritten copy, which may hold the weight of a `Strength` beside them."""
    if not old.built:
        return
    weights = new.weights
    if len(weights) != len(old.weights):
        weights = [w for w in weights if not hasattr(w, "strength")]
    for source, target in zip(old.weights, weights, strict=True):
        target.assign(keras.ops.copy(source))  # JAX gives away the buffers that a step takes
    if hasattr(new, "finalize_state"):  # layers such as Normalization compute with what they make from their weights
        new.finalize_state()
