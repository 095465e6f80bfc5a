"""The recipes that `transfer_learning.py` compares: which weights train, for how long, and how fast."""

import collections
import dataclasses
import math

import keras

from keras_reg import layers, losses
from keras_reg.transfer import Phase, TransferLearner

# `backbone`: "pretrained", "new", or "small" for a small network that sees the images in their own size.
# `phases`: of a `TransferLearner`. `mixed`: whether images are mixed and labels smoothed in the last phase.
Recipe = collections.namedtuple("Recipe", "backbone phases mixed", defaults=(False,))

SMALL, SCRATCH, FROZEN = "from scratch, small network", "from scratch", "frozen features"
FINE_TUNE, AT_ONCE, OF_BATCHES = "warm up, fine-tune", "fine-tune at once", "batch norm of batches"
DECAY, MIXED, COURSE = "layer-wise rates", "mixing and smoothing", "recipe of the course"
NAMES = (SMALL, SCRATCH, FROZEN, FINE_TUNE, AT_ONCE, OF_BATCHES, DECAY, MIXED, COURSE)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Epochs, batch size and learning rates of Adam for a number of images.

    A warm-up takes `head_epochs`, a head alone twice as many, and fine-tuning `epochs`. From scratch, the network
    trains for `scratch_epochs`, and the small network for `small_epochs`.
    """

    head_epochs: int
    epochs: int
    scratch_epochs: int = 60
    small_epochs: int = 60
    batch: int = 25
    head_rate: float = 3e-3
    rate: float = 3e-4  # of fine-tuning
    small_rate: float = 3e-3  # of the small network
    scratch_rate: float = 1e-3
    decay: float = 0.8


DIGITS = Plan(30, 30, batch=8, head_rate=1e-2, rate=1e-3)


def plan_for(images):
    """The plan for ImageNet weights. The rates were chosen with `--choose`, the epochs by the time that they take."""
    if images <= 200:
        return Plan(40, 20, scratch_epochs=60, small_epochs=80)
    return Plan(20, 10, scratch_epochs=40) if images <= 1000 else Plan(8, 5, scratch_epochs=20, batch=50)


def recipes(plan, images):
    """{name: `Recipe`} for a number of images. The rate falls to 0 in each phase, along a cosine."""

    def adam(rate, epochs):
        steps = epochs * math.ceil(images / plan.batch)
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))

    def warm_up(epochs=plan.head_epochs):
        return Phase("warm up", epochs, optimizer=adam(plan.head_rate, epochs))

    def train_all(epochs=plan.epochs, rate=plan.rate, **arguments):
        return Phase("fine-tune", epochs, unfreeze="all", optimizer=adam(rate, epochs), **arguments)

    has_layer_rates = hasattr(keras.optimizers, "MultiOptimizer")  # since Keras 3.11
    return {
        SMALL: Recipe("small", [train_all(plan.small_epochs, plan.small_rate, batch_norm=True)]),
        SCRATCH: Recipe("new", [train_all(plan.scratch_epochs, plan.scratch_rate, batch_norm=True)]),
        FROZEN: Recipe("pretrained", [warm_up(2 * plan.head_epochs)]),
        FINE_TUNE: Recipe("pretrained", [warm_up(), train_all()]),
        AT_ONCE: Recipe("pretrained", [train_all()]),
        OF_BATCHES: Recipe("pretrained", [warm_up(), train_all(batch_norm=True)]),
        **({DECAY: Recipe("pretrained", [warm_up(), train_all(layer_decay=plan.decay)])} if has_layer_rates else {}),
        MIXED: Recipe("pretrained", [warm_up(), train_all()], mixed=True),
        COURSE: Recipe("pretrained", None),  # the default of `TransferLearner`
    }


# What `--choose` compares: {recipe: (field of the plan, its values)}.
CHOICES = {
    FINE_TUNE: ("rate", (3e-4, 1e-3, 1e-4)),
    FROZEN: ("head_rate", (1e-3, 3e-3, 1e-2)),
    SMALL: ("small_rate", (1e-3, 3e-3)),
}


def train(backbone, classes, data, recipe, batch, seed, backup_dir=None, **preprocess):
    """Trains by a recipe, and returns the `TransferLearner` with the trained model.

    With `backup_dir`, an interrupted training resumes after its last epoch.
    """
    arguments = {"batch_size": batch, "seed": seed, "verbose": 0}
    learner = TransferLearner(backbone, classes, **preprocess)
    if not recipe.mixed:
        learner.fit(data, phases=recipe.phases, backup_dir=backup_dir, **arguments)
        return learner
    *first, last = recipe.phases
    learner.fit(data, phases=first, **arguments)  # plain images, so that their features are computed once
    loss = losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
    head = learner.model.layers[-1]
    mixed = TransferLearner(backbone, head, augmentation=mixing(seed), loss=loss, metrics=["accuracy"], **preprocess)
    mixed.fit(data, phases=last, backup_dir=backup_dir, **arguments)
    return mixed


def mixing(seed):
    """Shifts each image, flips half of them, and mixes half of them."""
    mix = layers.RandomChoice([layers.MixUp(0.4), layers.CutMix(1.0)], mode="sample")
    moves = [layers.RandomPadCrop(4), keras.layers.RandomFlip("horizontal", seed=seed)]
    return layers.Pipeline([*moves, layers.RandomApply(mix, 0.5)], seed=seed)
