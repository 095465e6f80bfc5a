"""Rewriting the configs of layers: penalties on their weights, and noise in their batch normalizations."""

import keras

from keras_reg._inner_layers import copy_lora_alpha, copy_tables, derive_values
from keras_reg.layers import NoisyBatchNormalization
from keras_reg.surgery._configs import config_of, made_from, name_objects

KERNELS = ("kernel_regularizer", "depthwise_regularizer", "pointwise_regularizer", "recurrent_regularizer")
BIASES = ("bias_regularizer",)
NORMALIZATION = ("gamma_regularizer", "beta_regularizer")


class Rewriter:
    """Creates changed copies of layers, without their weights.

    Layers and models inside wrappers are changed through the configs that are nested in those of the wrappers.
    """

    def __init__(self, penalty, penalized, noise):
        self.penalty = keras.regularizers.serialize(penalty) if penalty and (penalty.l1 or penalty.l2) else None
        self.penalized = penalized if penalty else ()  # names in configs
        self.noise = noise  # arguments of NoisyBatchNormalization, or None

    def changes(self, layer):
        """Returns the changes of a layer in words."""
        return self._class_and_config(layer, config_of(layer))[2]

    def copy(self, layer, seeds, others):
        """Returns the changed copy; `others` are further changes of its config."""
        config = config_of(layer)
        known = name_objects(layer, config)
        cls, config, _ = self._class_and_config(layer, config)
        if cls is not type(layer):  # new noise needs its own seed, or layers of one shape would draw the same noise
            config["seed"] = next(seeds)
        _seed_noise(config, seeds)
        return made_from(layer, cls, {**config, **others}, known)

    def _class_and_config(self, layer, config):
        cls, (config, changes) = type(layer), self._rewrite(config)
        if self.noise is not None and cls is keras.layers.BatchNormalization:
            return NoisyBatchNormalization, {**config, **self.noise}, [*changes, self._noise_in_words()]
        return cls, config, changes

    def unreached(self, layer, changes):
        """Yields in words what cannot be changed, since a layer creates it without naming it in its config."""
        names = [weight.name for weight in layer.weights]
        kernels = sum(name.endswith("kernel") for name in names)
        if self.penalty and kernels and not any("penalized" in change for change in changes):
            why = "it is quantized" if getattr(layer, "quantization_mode", None) else "its config names no regularizer"
            yield f"{kernels} kernels not penalized, {why}"
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        if self.noise is not None and "moving_mean" in names and not normalizes and not any("->" in c for c in changes):
            yield "no noise, its config names no BatchNormalization"

    def _noise_in_words(self):
        used = ("stddev",) if self.noise["noise"] == "output" else ("noise", "virtual_batch_size")
        arguments = ", ".join(f"{name}={_in_words(self.noise[name])}" for name in used)
        return f"BatchNormalization -> NoisyBatchNormalization({arguments})"

    def _rewrite(self, value):
        """Returns a changed copy of a config and of all configs nested in it, and the changes in words."""
        if isinstance(value, (list, tuple)):
            items = [self._rewrite(item) for item in value]
            kind = list if isinstance(value, list) else tuple  # also for the lists that TensorFlow wraps
            return kind(item for item, _ in items), [change for _, more in items for change in more]
        if not isinstance(value, dict):
            return value, []
        new, changes = {}, []
        for name, item in value.items():
            if name in self.penalized and not _is_quantized(value):
                new[name] = self.penalty
                what = name.removesuffix("_regularizer")
                changes += [f"{what} penalized"] if self.penalty else [f"{what} no longer penalized"] if item else []
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


def _seed_noise(value, seeds):
    """Gives each new `NoisyBatchNormalization` that is nested in a config a seed of its own."""
    if isinstance(value, dict):
        if value.get("class_name") == NoisyBatchNormalization.__name__ and "seed" not in value["config"]:
            value["config"]["seed"] = next(seeds)
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            _seed_noise(item, seeds)


def _is_quantized(config):
    """Whether a layer with this config has integer kernels, which a penalty cannot change."""
    mode = keras.dtype_policies.get(config["dtype"]).quantization_mode if config.get("dtype") else None
    return mode is not None and mode != "float8"


def _in_words(value):
    """Describes a number, or a `Strength` in its serialized form."""
    return f"Strength({value['config']['value']})" if isinstance(value, dict) else repr(value)


def copy_weights(old, new):
    """Copies all weights of `old` to a rewritten copy, which may also have the weight of a `Strength`."""
    copy_tables(old, new)
    if not old.built:
        return
    weights = new.weights
    if len(weights) != len(old.weights):
        weights = [w for w in weights if not hasattr(w, "strength")]
    for source, target in _pairs(old, old.weights, new, weights):
        target.assign(keras.ops.copy(source))  # a copy, since JAX donates the buffers of a step
        if target.trainable != source.trainable:
            target.trainable = source.trainable  # a weight that was frozen individually
    copy_lora_alpha(old, new)
    derive_values(new)


def _pairs(old, sources, new, targets):
    """Pairs weights by name if names are unique, since a quantized layer creates its weights in another order."""
    of_old, of_new = ([w.path.split(f"{x.name}/", 1)[-1] for w in ws] for x, ws in ((old, sources), (new, targets)))
    if len(set(of_old)) == len(of_old) and set(of_old) == set(of_new):
        targets = [targets[of_new.index(name)] for name in of_old]
    return zip(sources, targets, strict=True)
