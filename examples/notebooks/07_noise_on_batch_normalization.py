# %% [markdown]
# # The noise of batch normalization
#
# Batch normalization divides by what it finds in the batch. So what comes out for an image depends on which others
# happen to be there: noise, the more of it the smaller the batch. `NoisyBatchNormalization` makes that noise a choice
# of its own, apart from the size of the batch.

# %% [markdown]
# The next cell is for Colab: it installs `keras_reg` where it is missing, from a wheel that lies beside this notebook
# (`make wheel` in a checkout builds one; there is no release on PyPI yet).

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
# ## To see it
#
# One image, always the same, in batches with others: what does the layer make of one of its pixels? On the left the
# batches are of three sizes and the layer is Keras' own. On the right all batches are of 128. With `noise="statistics"`
# the layer normalizes by a few examples drawn from them, as if the batch were that small. With `noise="output"` it adds
# normal noise of a given deviation to what is normalized, to each pixel its own.


# %%
def outputs(layer, batch_size):
    """What the layer makes of one pixel of image 0, together with others."""
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
# Blue and orange are about as wide left and right: this is the noise of small batches. They do not lie in the same
# place, for on the left the image itself is always among the four, on the right it need not be among those that are
# drawn. In inference there is no noise at all: the layer is Keras' own, with the same weights, so it can be put into a
# network that has been trained, and taken out again.

# %%
trained = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization()])
noisy = keras_reg.surgery.regularize(trained, bn_noise=0.3)
difference = trained.predict(images[:100], verbose=0) - noisy.predict(images[:100], verbose=0)
print([type(layer).__name__ for layer in noisy.layers], "largest difference in inference:", abs(difference).max())

# %% [markdown]
# ## Does it help?
#
# A network of two dense layers, ten labelled images of each digit, all of them in one batch, three seeds; judged by the
# other 1697 images.


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
axis.set(xlabel="accuracy on the other images (%)", ylabel="noise", xlim=(min(map(min, results.values())) - 2, 100))
axis.invert_yaxis()
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Here it does not help: a little noise changes no more than the seed does, and much of it costs. Augmentation, in
# another of these notebooks, is worth several per cent on the same images. What the layer is for is the choice:
# when batches grow, because there are more devices, the noise of the small ones goes away, and with
# `noise="statistics"` it can be kept. `GhostBatchNormalization` does the same with real parts of the batch.
