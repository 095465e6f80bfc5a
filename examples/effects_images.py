"""Changed test images for `effects.py`, made with NumPy and SciPy: what the augmentations of this package train for."""

import numpy as np
from scipy import ndimage


def relit(images, seed=0):
    """The images under another light for each of them: darker or brighter, warmer or cooler."""
    random = np.random.default_rng(seed)
    brightness, warmth = random.uniform(0.6, 1.4, len(images)), random.uniform(-0.3, 0.3, len(images))
    light = brightness[:, None] * np.stack([1 + warmth, np.ones_like(warmth), 1 - warmth], -1)
    return np.clip(images * light[:, None, None], 0, 1).astype("float32")


def turned(images, seed=0, degrees=30):
    """Each image turned about its center by its own angle of up to `degrees`. Corners are filled with 0."""
    angles = np.random.default_rng(seed).uniform(-degrees, degrees, len(images))
    rotated = [ndimage.rotate(x, angle, reshape=False, order=1) for x, angle in zip(images, angles, strict=True)]
    return np.stack(rotated).astype("float32")


def gray(images):
    """The mean of the channels of each pixel, in all channels."""
    return np.broadcast_to(images.mean(-1, keepdims=True), images.shape)


def noisy(images, seed=0, stddev=0.1):
    noise = np.random.default_rng(seed).normal(0, stddev, images.shape)
    return np.clip(images + noise, 0, 1).astype("float32")


def blurred(images, sigma=1.0):
    """The images after a Gaussian blur with a standard deviation of `sigma` pixels."""
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0))


def pale(images, contrast=0.4):
    """The images with less contrast around a medium gray."""
    return 0.5 + contrast * (images - 0.5)


def coarse(images):
    """The images with the mean of each block of 2x2 pixels in all pixels of the block."""
    return smaller(images).repeat(2, 1).repeat(2, 2)


def smaller(images):
    """Images of half the size."""
    n, height, width, channels = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4))


WORSE = {"relit": relit, "noisy": noisy, "blurred": blurred, "pale": pale, "coarse": coarse}


def accuracies(accuracy_of, changes, images):
    """The accuracy on each kind of changed images, and the mean over the worse kinds if all of them are there."""
    found = {name: accuracy_of(change(images)) for name, change in changes.items()}
    return {**found, "worse": np.mean([found[name] for name in WORSE])} if found.keys() >= WORSE.keys() else found
