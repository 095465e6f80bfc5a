"""The methods of `effects.py` that take further passes of the network, or change the loss, in each step."""

import keras
from effects_recipes import Effect, Recipe, grid
from effects_settings import DENSE, FEW, SEMI, WRONG

from keras_reg import layers, surgery, training

RADII, ADAPTIVE_RADII = (0.05, 0.1, 0.2), (0.5, 1.0, 2.0)
SHARPNESS = {
    **grid("SharpnessAware({})", lambda rho: Recipe(sharpness=training.SharpnessAware(rho)), RADII),
    **grid(
        "SharpnessAware({}, adaptive=True)",
        lambda rho: Recipe(sharpness=training.SharpnessAware(rho, adaptive=True)),
        ADAPTIVE_RADII,
    ),
}


def penalized(text, make, values):
    """Training with the penalty `make(value)`."""
    return grid(text, lambda value: Recipe(penalties=lambda: [make(value)]), values)


def consistent(weight):
    return training.JensenShannonConsistency(layers.AugMix(3, value_range=(0, 1)), weight)


ADVERSARIAL = penalized("VirtualAdversarial({})", training.VirtualAdversarial, (0.3, 1.0, 2.0))
CONFIDENCE = penalized("ConfidencePenalty({})", training.ConfidencePenalty, (0.1, 0.3, 1.0))


JENSEN_SHANNON = penalized("JensenShannonConsistency(AugMix(3), {})", consistent, (1.0, 4.0, 12.0))


def dropout(rate, weight=None):
    """Dropout before the last layer, with R-Drop if there is a weight."""
    penalties = (lambda: [training.ConsistentDropout(weight)]) if weight else (lambda: [])
    return Recipe(changed=lambda network: surgery.regularize(network, dropout=rate), penalties=penalties)


DROPOUT = grid("regularize(network, dropout={})", dropout, (0.3, 0.5))
CONSISTENT = {
    f"ConsistentDropout({weight}), regularize(network, dropout={rate})": dropout(rate, weight)
    for rate in (0.3, 0.5)
    for weight in (0.6, 1.0, 4.0)
}


def mixed_inside(kinds):
    """Makes recipes with MixUp of the inputs or of the outputs of the layers of these kinds."""

    def names(network):
        layers_and_input = keras.Model(network.inputs, network.outputs).layers
        return [layer.name for layer in layers_and_input if isinstance(layer, (keras.layers.InputLayer, *kinds))]

    return lambda alpha: Recipe(augmentation=lambda: [layers.MixUp(alpha)], mix_at=names)


ALPHAS = (0.2, 0.4, 1.0, 2.0)
OUTSIDE = grid("MixUp({})", lambda alpha: Recipe(augmentation=lambda: [layers.MixUp(alpha)]), ALPHAS[:3])
INSIDE = {
    **grid("MixUp({}) of the inputs or of a convolution", mixed_inside((keras.layers.Conv2D,)), ALPHAS),
    **grid(
        "MixUp({}) of the inputs, of a convolution or of the features",
        mixed_inside((keras.layers.Conv2D, keras.layers.Flatten)),
        ALPHAS,
    ),
}

STEPS = [
    Effect("MixUp", FEW, INSIDE, OUTSIDE, title="inside the network"),
    Effect("MixUp", WRONG, INSIDE, OUTSIDE, title="inside the network, wrong labels"),
    Effect("SharpnessAware", FEW, SHARPNESS),
    Effect("SharpnessAware", WRONG, SHARPNESS, title="wrong labels"),
    Effect("SharpnessAware", DENSE, SHARPNESS, measure="perturbed", title="noise on the weights"),
    Effect("VirtualAdversarial", FEW, ADVERSARIAL),
    Effect("VirtualAdversarial", SEMI, ADVERSARIAL, title="unlabeled images"),
    Effect("ConsistentDropout", FEW, CONSISTENT, DROPOUT),
    Effect("JensenShannonConsistency", FEW, JENSEN_SHANNON),
    Effect("JensenShannonConsistency", FEW, JENSEN_SHANNON, measure="occluded", title="hidden boxes"),
    Effect("ConfidencePenalty", FEW, CONFIDENCE),
    Effect("ConfidencePenalty", WRONG, CONFIDENCE, title="wrong labels"),
]
