"""What `effects.py` measures, as data: a recipe is what a run adds, an effect compares recipes."""

import dataclasses
from collections.abc import Callable

import keras

from keras_reg import training

PLAIN = "without"  # the label of the recipe that adds nothing


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run adds to the network of its setting, and how it is trained."""

    parts: dict = dataclasses.field(default_factory=dict)  # arguments of the network
    changed: Callable = lambda network: network
    augmentation: Callable = lambda: []  # returns layers
    smoothing: float = 0.0
    callbacks: Callable = lambda epochs: []
    optimizer: Callable = lambda rate, network: keras.optimizers.Adam(rate)
    penalties: Callable = lambda: ()
    sharpness: training.SharpnessAware | None = None
    mix_at: Callable = lambda network: None  # returns names of layers
    interrupted: bool = False  # after half of the epochs, and resumed


@dataclasses.dataclass(frozen=True)
class Effect:
    """One row: recipes by the code that makes them, of which the best one on other splits is reported."""

    method: str
    setting: str
    candidates: dict
    baseline: dict = dataclasses.field(default_factory=lambda: {PLAIN: Recipe()})
    measure: str = "test"
    title: str = ""  # if a method has several rows
    strength_of: str = ""  # the name of the row whose strength it has, if it does not choose its own

    @property
    def name(self):
        return f"{self.method}, {self.title}" if self.title else self.method


# Methods. A text, filled with each of the values, says what `make` makes of the value.


def grid(text, make, values):
    return {text.format(value): make(value) for value in values}


def images(text, make, values):
    """Augmentation by `make(value)`, a layer or a list of layers."""

    def recipe(value):
        def augmentation():
            made = make(value)
            return made if isinstance(made, list) else [made]

        return Recipe(augmentation=augmentation)

    return grid(text, recipe, values)


def parts(text, name, make, values):
    """A part of the network, which `make(value, *given)` makes."""
    return grid(text, lambda value: Recipe({name: lambda *given, **more: make(value, *given, **more)}), values)


def changed(text, change, values):
    return grid(text, lambda value: Recipe(changed=lambda network: change(network, value)), values)
