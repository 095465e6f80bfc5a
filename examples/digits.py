"""What all examples on digits share: scikit-learn's digits with few or wrong labels, a network, an augmentation."""

import collections

import keras
import numpy as np

import keras_reg

BATCH = 32
LEARNING_RATE = 1e-3
SMOOTHING = 0.1

Digits = collections.namedtuple("Digits", "x_train y_train x_test y_test clean")


def network(shape=(8, 8, 1), classes=10):
    """The network of docs/start.md, which ends in logits. Larger images pass more blocks, down to a side of 4."""
    layers = [keras.Input(shape)]
    for _ in range(max(1, int(np.ceil(np.log2(min(shape[:2]) / 4))))):
        layers += [keras.layers.Conv2D(32, 3, padding="same", activation="relu") for _ in range(2)]
        layers.append(keras.layers.MaxPooling2D())
    layers += [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(classes)]
    return keras.Sequential(layers)


def augmentation(seed, padding=1, shift=True, mix=True, alpha=1.0, rate=1.0):
    """Shifts each image by up to `padding` pixels, then mixes it by either MixUp(alpha) or CutMix(1.0), at `rate`."""
    mixers = [keras_reg.layers.MixUp(alpha, rate=rate), keras_reg.layers.CutMix(1.0, rate=rate)]
    layers = [keras_reg.layers.RandomPadCrop(padding)] if shift else []
    layers += [keras_reg.layers.RandomChoice(mixers, mode="sample")] if mix else []
    return keras_reg.layers.Pipeline(layers, seed=seed)


def load(labeled, seed, wrong=0.0, kind="symmetric"):
    """Digits of 8 x 8 pixels: some for training, and all others for the test.

    Args:
        labeled: Number of training images, which are stratified by class.
        seed: Seed that selects the training images and the wrong labels. Seed 0 with 100 labels is the split of
            docs/start.md.
        wrong: Share of training labels that are wrong.
        kind: See `wrong_labels`.

    Returns:
        A `Digits` tuple. Images are float32 in [0, 1]. `y_train` has the wrong labels and `clean` the true ones.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    x_train, x_test, clean, y_test = train_test_split(x, y, train_size=labeled, stratify=y, random_state=seed)
    return Digits(x_train, wrong_labels(clean, wrong, seed, kind=kind), x_test, y_test, clean)


def wrong_labels(labels, share, seed, classes=10, kind="symmetric"):
    """A copy of `labels` in which exactly the given share, rounded to whole labels, is wrong.

    "symmetric" replaces a label by any other class with equal probability, "pairs" by the next class (9 becomes 0).
    """
    if kind not in ("symmetric", "pairs"):
        raise ValueError(f"`kind` must be 'symmetric' or 'pairs'. Received: kind={kind!r}")
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(labels))[: round(share * len(labels))]
    step = random.integers(1, classes, len(chosen)) if kind == "symmetric" else 1
    changed = labels.copy()
    changed[chosen] = (labels[chosen] + step) % classes
    return changed


def shifted(images, seed=0):
    """Each image moved by one pixel in one of the eight directions, drawn at random. The border is filled with 0."""
    random = np.random.default_rng(seed)
    moves = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    drawn = [moves[k] for k in random.integers(0, len(moves), len(images))]
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(padded, drawn, strict=True)])


def occluded(images, share=3 / 8, seed=0):
    """Each image with a box at a random place set to 0. Its sides are `share` of the image's: 3 of 8 pixels."""
    random = np.random.default_rng(seed)
    changed = images.copy()
    height, width = (max(1, round(share * side)) for side in images.shape[1:3])
    for image in changed:
        y, x = (random.integers(0, side - box + 1) for side, box in zip(image.shape, (height, width), strict=False))
        image[y : y + height, x : x + width] = 0
    return changed
