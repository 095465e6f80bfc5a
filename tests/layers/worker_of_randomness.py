"""What a worker process of `test_randomness.py` runs; a spawned process imports it by name."""

import numpy as np

from keras_reg.layers import MixUp, Pipeline, RandomApply, RandomErasing

IMAGES = np.random.default_rng(0).random((4, 6, 5, 1), "float32")
LABELS = np.eye(4, dtype="float32")
COUNT = 10
layer = Pipeline([RandomApply(RandomErasing(1.0, fill="channel_noise"), 0.9), MixUp(1.0)], seed=1)


def draw(layer, count=COUNT):
    """Results of `count` calls, each as one vector."""
    rows = [layer((IMAGES, LABELS)) for _ in range(count)]
    return [np.concatenate([np.ravel(np.asarray(x)), np.ravel(np.asarray(y))]) for x, y in rows]


class Batches:
    """A data set of as many batches as `COUNT`."""

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        return draw(layer, 1)[0]
