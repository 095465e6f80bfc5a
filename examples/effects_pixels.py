"""The methods of `effects.py` that change colors, sharpness and positions of pixels.

On photographs, only one strength of each is tried: one that its card recommends, except for a stronger blur.
"""

from effects_recipes import Effect, images
from effects_settings import PHOTOS, TURNED

from keras_reg import layers


def relit(hue):
    return layers.ColorJitter(0.4, 0.4, 0.4, hue, value_range=(0, 1))


def sharpened(change):
    return layers.RandomSharpness(change, value_range=(0, 1))


def mixed(severity):
    return layers.AugMix(severity, value_range=(0, 1))


FLIPS = images("RandomFlip()", lambda _: layers.RandomFlip(), (None,))
TURNS = images("RandomAffine({})", layers.RandomAffine, (15, 30))
LIGHTS = images("ColorJitter(0.4, 0.4, 0.4, {}, value_range=(0, 1))", relit, (0.1,))
GRAYS = images("RandomGrayscale({})", layers.RandomGrayscale, (0.2,))
NOISES = images("RandomGaussianNoise({})", layers.RandomGaussianNoise, (0.1,))
BLURS = images("RandomGaussianBlur({})", layers.RandomGaussianBlur, ((0.1, 2.0),))
SHARPNESS = images("RandomSharpness({}, value_range=(0, 1))", sharpened, (0.9,))
MIXTURES = images("AugMix({}, value_range=(0, 1))", mixed, (3,))


def rows(method, setting, candidates, measure, changed, unchanged):
    """Rows for changed test images, and for unchanged ones with the strength that was chosen for the changed ones."""
    row = Effect(method, setting, candidates, measure=measure, title=changed)
    return [row, Effect(method, setting, candidates, title=unchanged, strength_of=row.name)]


PIXELS = [
    Effect("RandomFlip", PHOTOS, FLIPS),
    *rows("RandomAffine", TURNED, TURNS, "turned", "turned images", "upright images"),
    *rows("ColorJitter", PHOTOS, LIGHTS, "relit", "other light", "the same light"),
    *rows("RandomGrayscale", PHOTOS, GRAYS, "gray", "gray images", "colored images"),
    *rows("RandomGaussianNoise", PHOTOS, NOISES, "noisy", "noisy images", "clean images"),
    *rows("RandomGaussianBlur", PHOTOS, BLURS, "blurred", "blurred images", "sharp images"),
    *rows("RandomSharpness", PHOTOS, SHARPNESS, "blurred", "blurred images", "sharp images"),
    *rows("AugMix", PHOTOS, MIXTURES, "worse", "worse images", "clean images"),
]
