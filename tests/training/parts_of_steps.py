"""The parts of a training step, one row for each, and small networks to try them on: see `test_parts_of_steps.py`.

A part is a row of `PARTS`: its name, and a function that makes the arguments of `RegularizedModel` anew. What a part
does not go with is a row of `REFUSED`: (part, setting) and words of the error.
"""

import keras
import numpy as np
from harness import to_numpy

from keras_reg import layers, training

X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
Y = (np.arange(8) % 3).astype("int32")


def everything():
    return {name: argument for name in ("mix_at", "SharpnessAware") for name, argument in PARTS[name]().items()} | {
        "penalties": [penalty for name in PENALTIES for penalty in PARTS[name]()["penalties"]]
    }


def jensen_shannon():
    return training.JensenShannonConsistency(layers.RandomGaussianNoise(0.5, rate=1.0, seed=1), 2.0)


@keras.saving.register_keras_serializable(package="tests")
class OwnLoss(keras.Model):
    """Computes the loss by itself, like Keras."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)


@keras.saving.register_keras_serializable(package="tests")
class OwnTrainStep(keras.Model):
    """Takes steps by itself, like Keras."""

    def train_step(self, *args):
        return super().train_step(*args)


PENALTIES = ("ConfidencePenalty", "ConsistentDropout", "VirtualAdversarial", "JensenShannonConsistency")
PARTS = {
    "augmentation": lambda: {"augmentation": layers.MixUp(0.5, seed=1)},
    "mix_at": lambda: {"augmentation": layers.MixUp(0.5, seed=1), "mix_at": ["norm", "features"]},
    "ConfidencePenalty": lambda: {"penalties": [training.ConfidencePenalty(0.3)]},
    "ConsistentDropout": lambda: {"penalties": [training.ConsistentDropout(0.6)]},
    "VirtualAdversarial": lambda: {"penalties": [training.VirtualAdversarial(0.5, seed=1)]},
    "JensenShannonConsistency": lambda: {"penalties": [jensen_shannon()]},
    "SharpnessAware": lambda: {"sharpness": training.SharpnessAware(0.1)},
    "all": everything,
    "own loss": lambda: PARTS["augmentation"]() | PARTS["SharpnessAware"](),
    "own train step": lambda: {"augmentation": layers.LabelNoise(0.5, 3, seed=1)},
}
NETWORKS = {"own loss": OwnLoss, "own train step": OwnTrainStep}  # the others are `keras.Model`
REFUSED = {("own train step", "two outputs"): "noisy_output"}  # (part, setting): words of the error


def network(outputs=1, dropout=0.3, normalizes=True, cls=keras.Model):
    """A classifier with all that a further pass could change: statistics, seeds, and a loss of a layer."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = keras.layers.Dense(8, "tanh", kernel_regularizer="l2")(inputs)
    x = (keras.layers.BatchNormalization if normalizes else keras.layers.Identity)(name="norm")(x)
    x = keras.layers.Dropout(dropout, seed=1, dtype="float32", name="features")(x)
    made = [keras.layers.Dense(3, dtype="float32", name=f"head{number}")(x) for number in range(outputs)]
    return cls(inputs, made if outputs > 1 else made[0])


def compiled(part, optimizer=None, outputs=1, of_network=None, **options):
    parts = PARTS[part]() if part != "none" else {}
    made = network(outputs, cls=NETWORKS.get(part, keras.Model), **of_network or {})
    model = training.RegularizedModel(made, **parts)
    loss = [keras.losses.SparseCategoricalCrossentropy(from_logits=True) for _ in range(outputs)]
    metrics = [[accuracy()] for _ in loss] if outputs > 1 else [accuracy()]
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss if outputs > 1 else loss[0], metrics=metrics, **options)
    return model


def accuracy():
    """Not "accuracy": TensorFlow would trace each step twice, and keep the first graph for good."""
    return keras.metrics.SparseCategoricalAccuracy("accuracy")


def fitted(model, outputs=1, epochs=2):
    """Two epochs of two steps. Returns the logs and the weights."""
    y = [Y] * outputs if outputs > 1 else Y
    logs = model.fit(X, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    return logs, weights(model)


def weights(model):
    """The values as they are now. Arrays of PyTorch may share memory with their variable."""
    return [np.array(to_numpy(weight)) for weight in model.model.weights]


def augments(part):
    """Whether a part of the model, or a penalty, draws an augmentation."""
    parts = PARTS[part]()
    return "augmentation" in parts or any(hasattr(penalty, "augmentation") for penalty in parts.get("penalties", ()))


def names_of_terms(part):
    return {penalty.name for penalty in PARTS[part]().get("penalties", ())}
