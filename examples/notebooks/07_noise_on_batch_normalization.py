# %% [markdown]
# # The noise of batch normalization
#
# Batch normalization normalizes by the statistics of the batch, so its output for an image depends on the other images
# in the batch. This adds noise, and smaller batches add more of it. `NoisyBatchNormalization` lets you choose the
# strength of this noise independently of the batch size.

# %% [markdown]
# The next cell is for Colab. If `keras_reg` is missing, the cell installs it from a wheel in the folder of this
# notebook. `make wheel` in a clone builds the wheel, since there is no release on PyPI yet.

# %%
import importlib.util
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or "jax", or "torch"
if importlib.util.find_spec("keras_reg") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q keras_reg-*.whl")

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_reg
from keras_reg.layers import NoisyBatchNormalization

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
DRAWS, SEEDS, EPOCHS = (20, 1, 1) if SMOKE else (500, 3, 100)

images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Visualizing the noise
#
# Put the same image into many batches with other images, and look at the output of the layer for one pixel. On the
# left, the layer is Keras' own, and the batches have three sizes. On the right, all batches have 128 images. With
# `noise="statistics"`, the layer normalizes by the statistics of a few examples of the batch, as if the batch were that
# small. With `noise="output"`, it adds independent normal noise to each normalized pixel.


# %%
def outputs(layer, batch_size):
    """Outputs of the layer for one pixel of image 0, in batches with random other images."""
    found = []
    for _ in range(DRAWS):
        batch = images[np.concatenate([[0], rng.choice(np.arange(1, len(images)), batch_size - 1)])]
        found.append(layer(batch, training=True)[0, 2, 2, 0])
    return keras.ops.convert_to_numpy(keras.ops.stack(found))


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), sharex=True, sharey=True)
bins = {"bins": np.linspace(1.3, 2.7, 90), "histtype": "step", "density": True}
for size in (4, 16, 128):
    found = outputs(keras.layers.BatchNormalization(), size)
    left.hist(found, **bins, label=f"batches of {size}: deviation {found.std():.3f}")
for name, arguments in {
    "statistics of 4": {"noise": "statistics", "virtual_batch_size": 4},
    "statistics of 16": {"noise": "statistics", "virtual_batch_size": 16},
    "output, stddev 0.1": {"noise": "output", "stddev": 0.1},
}.items():
    found = outputs(NoisyBatchNormalization(**arguments, seed=1), 128)
    right.hist(found, **bins, label=f"{name}: deviation {found.std():.3f}")
for axis, title in ((left, "BatchNormalization"), (right, "NoisyBatchNormalization, batches of 128")):
    axis.set(xlabel="one pixel of one image, normalized", ylabel="density", title=title)
    axis.legend(frameon=False, loc="upper right", fontsize=8)

# %% [markdown]
# The blue and the orange distribution have about the same width on both sides, so the layer imitates the noise of small
# batches. Their positions differ: on the left, the image itself is always one of the four images, and on the right, it
# may not be among the drawn examples. In inference, there is no noise. The layer then equals Keras' own with the same
# weights, so it can be inserted into a trained network and removed again.

# %%
trained = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization()])
noisy = keras_reg.surgery.regularize(trained, bn_noise=0.3)
difference = trained.predict(images[:100], verbose=0) - noisy.predict(images[:100], verbose=0)
print([type(layer).__name__ for layer in noisy.layers], "largest difference in inference:", abs(difference).max())

# %% [markdown]
# ## Measuring the effect
#
# Train a network of two dense layers on ten labeled images per digit, all in one batch, with three seeds. Evaluate it
# on the other 1697 images.


# %%
def train(normalization, seed):
    keras.utils.set_random_seed(seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == digit][:10] for digit in range(10)])
    others = np.setdiff1d(order, chosen)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    for _ in range(2):
        model.add(keras.layers.Dense(256, use_bias=False))
        model.add(normalization())
        model.add(keras.layers.ReLU())
    model.add(keras.layers.Dense(10))
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(images[chosen], labels[chosen], batch_size=100, epochs=EPOCHS, verbose=0)
    return 100 * model.evaluate(images[others], labels[others], batch_size=1024, verbose=0)[1]


def noisy_by(**arguments):
    return lambda: NoisyBatchNormalization(momentum=0.9, seed=1, **arguments)


LAYERS = {
    "none": lambda: keras.layers.BatchNormalization(momentum=0.9),
    **{f"output, stddev {stddev}": noisy_by(stddev=stddev) for stddev in (0.3, 0.6, 1.0, 2.0)},
    **{f"statistics of {n}": noisy_by(noise="statistics", virtual_batch_size=n) for n in (32, 4)},
}
results = {name: [train(layer, seed) for seed in range(SEEDS)] for name, layer in LAYERS.items()}

# %%
figure, axis = plt.subplots(figsize=(7, 3))
axis.barh(list(results), [np.mean(values) for values in results.values()], color="#d8d8d8")
for seed in range(SEEDS):
    axis.plot([values[seed] for values in results.values()], list(results), "o", label=f"seed {seed}")
axis.set(xlabel="validation accuracy (%)", ylabel="noise", xlim=(min(map(min, results.values())) - 2, 100))
axis.invert_yaxis()
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The noise does not help here. A little noise changes the accuracy no more than the seed does, and strong noise lowers
# it. In another of these notebooks, augmentation gains several percentage points on the same images. The layer is
# useful if you increase the batch size, for example to train on more devices: `noise="statistics"` keeps the noise of
# the small batches. `GhostBatchNormalization` does the same by normalizing real parts of the batch.
