"""The rows of `after_training.py`: how networks are trained, and which model is made of them."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from effects_recipes import Recipe
from effects_settings import COLORS, FEW, SETTINGS

from keras_reg import callbacks, inference, layers, surgery

DIGITS, IMAGES = "digits", "images"
PLAIN, MORE, STOPPED = "one network", "one network, more labels", "early stopping"
AVERAGE, SNAPSHOTS, SOUP = "average of the weights", "snapshots", "soup of the snapshots"
FIVE, BAGGED, VIEWS = "ensemble of five", "ensemble of five, bagging", "averaged views"
AUGMENTED, AUGMENTED_VIEWS = "augmentation", "augmentation, averaged views"
AUGMENTED_FIVE = "augmentation, ensemble of five"
DROPOUT, MONTE_CARLO = "dropout", "dropout, MonteCarlo"
MIXED, SMOOTHED = "MixUp", "label smoothing"
SETTINGS_OF = {
    DIGITS: dataclasses.replace(SETTINGS[FEW], rates=(3e-3,)),  # as chosen by effects.py
    IMAGES: dataclasses.replace(
        SETTINGS[COLORS], title="1000 labeled images of CIFAR-10, reduced to 16x16 pixels", labeled=1000, epochs=20
    ),
}
HELD_OUT = {DIGITS: 100, IMAGES: 500}  # further labeled images, to which temperatures are fitted
MEMBERS, DRAWS, PASSES = 5, 8, 20


@dataclasses.dataclass(frozen=True)
class Training:
    """One way to train a network. Networks of trainings with the same name and learning rate are trained once."""

    name: str = PLAIN
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    rate: float | None = None  # None: the one that was chosen for the plain network
    cosine: bool = True  # whether the learning rate falls along a cosine, or is constant
    split: Callable = lambda split, member: split
    validated: bool = False
    kept: Callable = lambda network, used: [network]  # the networks of one training, from the callbacks that were used


@dataclasses.dataclass(frozen=True)
class Row:
    """Networks, and the model that `make(networks, trainer)` makes of them. It takes `passes` of a network."""

    training: Training
    make: Callable = lambda networks, trainer: networks[0]
    members: int = 1
    passes: int = 1


def rows(kind):
    """{name of the row: {label: Row}}: a label is the code of a candidate, of which `--choose` finds the best one."""
    setting, colored = SETTINGS_OF[kind], kind == IMAGES
    augmented = Training(AUGMENTED, Recipe(augmentation=lambda: augmentation(colored)))
    dropouts = {f"regularize(network, dropout={rate})": dropout(rate) for rate in (0.3, 0.5, 0.7)}
    five = f"{MEMBERS} seeds"
    return {
        PLAIN: {f"Adam({rate})": Row(Training(rate=rate)) for rate in setting.rates},
        MORE: {"": Row(Training(MORE, split=with_held_out))},
        STOPPED: {"SmoothedEarlyStopping(patience=10)": Row(stopped())},
        AVERAGE: {training.name: Row(training) for training in averages(setting.epochs)},
        SNAPSHOTS: {each.name: Row(each, together, passes=cycles) for cycles, each in snapshots().items()},
        SOUP: {f"soup of {each.name}": Row(each, souped) for each in snapshots().values()},
        FIVE: {five: Row(Training(), together, MEMBERS, MEMBERS)},
        BAGGED: {five: Row(Training(BAGGED, split=resampled), together, MEMBERS, MEMBERS)},
        VIEWS: {label: Row(Training(), *more) for label, more in views(colored).items()},
        AUGMENTED: {" and ".join(map(code, augmentation(colored))): Row(augmented)},
        AUGMENTED_VIEWS: {label: Row(augmented, *more) for label, more in views(colored).items()},
        AUGMENTED_FIVE: {five: Row(augmented, together, MEMBERS, MEMBERS)},
        DROPOUT: {label: Row(training) for label, training in dropouts.items()},
        MONTE_CARLO: {
            f"{label}, {PASSES} passes": Row(training, drawn, passes=PASSES) for label, training in dropouts.items()
        },
        MIXED: {f"MixUp({alpha})": Row(mixing(alpha)) for alpha in (0.2, 1.0)},
        SMOOTHED: {f"LabelSmoothingCrossentropy({share})": Row(smoothing(share)) for share in (0.1, 0.2)},
    }


# Trainings.


def with_held_out(split, member):
    """The images for the temperature are used for training instead."""
    x, y = (np.concatenate([split[i], split[i + 2]]) for i in (0, 1))
    return split._replace(x_train=x, y_train=y)


def resampled(split, member):
    """As many training images, drawn with replacement."""
    drawn = np.random.default_rng(member).integers(0, len(split.x_train), len(split.x_train))
    return split._replace(x_train=split.x_train[drawn], y_train=split.y_train[drawn])


def stopped():
    return Training(
        STOPPED,
        Recipe(callbacks=lambda epochs: [callbacks.SmoothedEarlyStopping(patience=10, verbose=0)]),
        validated=True,
    )


def averages(epochs):
    """Averages of the weights: of a falling learning rate, or of a constant one from some epoch on."""

    def average(*arguments, cosine, **more):
        given = ", ".join([*map(repr, arguments), *(f"{name}={value}" for name, value in more.items())])
        name = f"WeightAverage({given})" + ("" if cosine else ", constant learning rate")
        recipe = Recipe(callbacks=lambda epochs: [callbacks.WeightAverage(*arguments, **more)])
        return Training(name, recipe, cosine=cosine)

    return [average(decay=decay, cosine=True) for decay in (0.9, 0.99)] + [
        average("swa", start=start, cosine=False) for start in (epochs // 4, epochs // 2)
    ]


def snapshots():
    def training(cycles):
        recipe = Recipe(callbacks=lambda epochs: [callbacks.SnapshotEnsemble(cycles)])
        return Training(
            f"SnapshotEnsemble({cycles})", recipe, cosine=False, kept=lambda network, used: used[0].models()
        )

    return {cycles: training(cycles) for cycles in (3, 5)}


def augmentation(colored):
    """Shifts by an eighth of the side. Digits must not be mirrored."""
    return [layers.RandomFlip(), layers.RandomPadCrop(2)] if colored else [layers.RandomPadCrop(1)]


def code(layer):
    padding = getattr(layer, "padding", None)
    return f"{type(layer).__name__}({padding or ''})"


def dropout(rate):
    return Training(f"dropout {rate}", Recipe(changed=lambda network: surgery.regularize(network, dropout=rate)))


def mixing(alpha):
    return Training(f"MixUp {alpha}", Recipe(augmentation=lambda: [layers.MixUp(alpha)]))


def smoothing(share):
    return Training(f"smoothing {share}", Recipe(smoothing=share))


# Models. All of them have one output, and return logits or logarithms of probabilities.


def together(networks, trainer):
    return inference.ensemble(networks)


def souped(networks, trainer):
    """The mean of the weights of those that improve the loss on the images for the temperature."""
    return inference.soup(networks, (trainer.split.x_val, trainer.split.y_val))


def drawn(networks, trainer):
    """The mean of passes with dropout."""
    drawing = inference.MonteCarlo(networks[0], PASSES, seed=trainer.seed)
    images = keras.Input(networks[0].input_shape[1:])
    return keras.Model(images, keras.ops.log(drawing(images)["mean"] + 1e-7))


def views(colored):
    """{label: (make, members, passes)}. Crops of digits would cut them off, and mirrored digits are no digits."""
    if colored:
        kinds = {"flips()": (inference.flips(), 2)}
        for size in (18, 20):
            crops = inference.multi_scale([size], inference.ten_crop(16))
            kinds[f"multi_scale([{size}], ten_crop(16))"] = crops, 10
        return {label: (viewed(lambda seed, found=found: found), 1, n) for label, (found, n) in kinds.items()}
    makers = {
        "RandomPadCrop(1)": lambda seed: layers.RandomPadCrop(1, seed=seed),
        "RandomAffine(10)": lambda seed: layers.RandomAffine(10, seed=seed),
        "RandomGaussianNoise(0.1)": lambda seed: layers.RandomGaussianNoise(0.1, seed=seed),
    }
    return {f"{label}, samples={DRAWS}": (viewed(make, DRAWS), 1, DRAWS) for label, make in makers.items()}


def viewed(views_of, samples=None):
    def make(networks, trainer):
        return inference.TestTimeAugmentation(networks[0], views_of(trainer.seed), samples=samples)

    return make
