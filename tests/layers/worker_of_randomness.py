"""What a worker process of `test_randomness.py` runs; a spawned process imports it by name."""

import hashlib

import keras
import numpy as np

from keras_reg.layers import MixUp, Pipeline, RandAugment, RandomAffine, RandomApply, RandomErasing

IMAGES = np.random.default_rng(0).random((4, 6, 5, 1), "float32")
LABELS = np.eye(4, dtype="float32")
PHOTOS = np.random.default_rng(1).integers(0, 256, (4, 12, 9, 3)).astype("uint8")
COUNT = 10
layer = Pipeline([RandomApply(RandomErasing(1.0, fill="channel_noise"), 0.9), MixUp(1.0)], seed=1)


def turning_and_changing(seed=1):
    return Pipeline([RandomAffine(20), RandAugment()], seed=seed)


turning = turning_and_changing()


def draw(layer, count=COUNT):
    """Results of `count` calls, each as one vector."""
    rows = [layer((IMAGES, LABELS)) for _ in range(count)]
    return [np.concatenate([np.ravel(np.asarray(x)), np.ravel(np.asarray(y))]) for x, y in rows]


def draw_from_seed(as_tensors=False):
    """Results of a layer that is made now, in one array. Without `as_tensors`, NumPy draws if this is a worker."""
    layer = Pipeline([RandomApply(RandomErasing(1.0, fill="channel_noise"), 0.9), MixUp(1.0)], seed=5)
    convert = keras.ops.convert_to_tensor if as_tensors else np.asarray
    results = [layer((convert(IMAGES), convert(LABELS))) for _ in range(COUNT)]
    return np.stack([np.ravel(keras.ops.convert_to_numpy(images)) for images, _ in results])


def send(connection, layer):
    connection.send(np.stack(draw(layer)))


class Batches:
    """A data set of as many batches as `COUNT`."""

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        return draw(layer, 1)[0]


class Photos:
    """A data set of batches of pictures, each with its index."""

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        if i >= COUNT:
            raise IndexError
        pictures = turning(PHOTOS, index=i)
        assert isinstance(pictures, np.ndarray) and pictures.dtype == "uint8", type(pictures)
        return pictures


def digest(batches):
    """A number of all bits, in their order."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(batch).tobytes() for batch in batches)).hexdigest()
