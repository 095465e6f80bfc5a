# %% [markdown]
# # keras.distribution
#
# In data parallel training with JAX, each device trains on its part of the batch. The batch is a single array that is
# sharded over all devices. Images on different devices therefore get different random numbers, and an image can be
# mixed with one from another device. Here the devices are two virtual CPU devices.

# %%
import os

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_reg


# %%
def build():
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    augmentation = keras_reg.layers.Pipeline([keras_reg.layers.RandomErasing(1.0), keras_reg.layers.MixUp(0.2)], seed=1)
    model = keras_reg.training.RegularizedModel(network, augmentation)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def main(epochs=5):
    """Returns the losses on all devices and on one device, and a batch of augmented copies of one image."""
    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")[:256]
    y = y[:256]
    losses = {}
    for name, distribution in (("all", keras.distribution.DataParallel()), ("one", None)):
        keras.distribution.set_distribution(distribution)
        losses[name] = build().fit(x, y, batch_size=64, epochs=epochs, shuffle=False, verbose=0).history["loss"]
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    same = build().augment(np.repeat(x[:1], 64, axis=0), np.repeat(y[:1], 64))[0]
    return losses, same


if __name__ == "__main__":
    losses, same = main()
    images = np.asarray(same).reshape(64, -1)
    print(f"{len(keras.distribution.list_devices())} devices")
    print("losses on all of them and on one:", *(np.round(values, 4).tolist() for values in losses.values()))
    halves = [len(np.unique(part, axis=0)) for part in (images[:32], images[32:])]
    both = len(np.unique(images, axis=0))
    print(f"one image 64 times: {halves[0]} and {halves[1]} results on the devices, {both} together")
