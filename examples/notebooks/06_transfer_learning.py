# %% [markdown]
# # Transfer learning in phases
#
# A network has learnt the digits 0 to 4. Now it is to tell 5 to 9 apart, and sees three images of each. Its features
# are good, its head is new: so warm up the head while the rest is frozen, then fine-tune everything. `TransferLearner`
# does both, and keeps out of the traps between them.

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
from keras_reg.transfer import Phase, TransferLearner

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
SEEDS, PRETRAINING, EPOCHS = (1, 1, 1) if SMOKE else (3, 20, 25)

images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
old = labels < 5

# %% [markdown]
# The backbone: a small network with batch normalization, which ends in a vector of features. In life it comes with its
# weights from `keras.applications`, KerasHub or KerasCV; here it is trained first, for the notebook to run without a
# download.


# %%
def backbone():
    layers = [keras.Input((8, 8, 1))]
    for block, filters in enumerate((16, 16, 32, 64)):
        stride = 2 if block in (2, 3) else 1
        layers.append(
            keras.layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"block{block}_conv")
        )
        layers.append(keras.layers.BatchNormalization(momentum=0.9, name=f"block{block}_bn"))
        layers.append(keras.layers.ReLU(name=f"block{block}_relu"))
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(name="pool")], name="small_net")


keras.utils.set_random_seed(0)
pretrained = backbone()
model = keras.Sequential([pretrained, keras.layers.Dense(5)])
augmentation = keras_reg.layers.Pipeline([keras_reg.layers.RandomPadCrop(1), keras_reg.layers.MixUp(0.4)], seed=0)
trainer = keras_reg.training.RegularizedModel(model, augmentation)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
trainer.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
trainer.fit(images[old], labels[old], batch_size=64, epochs=PRETRAINING, verbose=0)
print(f"{trainer.evaluate(images[old], labels[old], batch_size=512, verbose=0)[1]:.1%} of the old digits are right")


# %% [markdown]
# ## One transfer
#
# Three images of each new digit to learn from, all the others to judge by.


# %%
def task(seed):
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~old))
    few = np.concatenate([order[labels[order] == digit][:3] for digit in range(5, 10)])
    rest = np.setdiff1d(order, few)
    return (images[few], labels[few] - 5), (images[rest], labels[rest] - 5)


def with_weights(pretrained=pretrained):
    made = backbone()
    made.set_weights(pretrained.get_weights())
    return made


def warm_up(epochs):
    return Phase("warm up", epochs, optimizer=keras.optimizers.Adam(1e-2))


def fine_tune(epochs, **arguments):
    return Phase("fine-tune", epochs, unfreeze="all", optimizer=keras.optimizers.Adam(1e-3), **arguments)


train, judge = task(seed=0)
figure, axes = plt.subplots(1, 15, figsize=(9, 0.8))
for axis, image in zip(axes, train[0], strict=True):
    axis.imshow(image, cmap="gray_r")
    axis.axis("off")

# %% [markdown]
# A phase says how long, what is unfrozen, and with which optimizer. `summary` tells what has been done, `plot` draws
# the curves, with a line where the phase changes.

# %%
learner = TransferLearner(with_weights(), 5)
phases = [warm_up(EPOCHS), fine_tune(EPOCHS)]
learner.fit(train, validation_data=judge, phases=phases, batch_size=8, seed=0, verbose=0)
learner.summary()
learner.plot(metrics=["accuracy"])

# %% [markdown]
# In the first phase the backbone was frozen, so its features were computed once. Its batch normalizations stay in
# inference mode in both: with fifteen images the statistics of a batch say little about the digits to come.
#
# ## Was it worth it?
#
# Four recipes, each for as many epochs, each for three choices of the fifteen images.

# %%
RECIPES = {
    "from scratch": (backbone, lambda: [fine_tune(2 * EPOCHS, batch_norm=True)]),
    "frozen features": (with_weights, lambda: [warm_up(2 * EPOCHS)]),
    "warm up, fine-tune": (with_weights, lambda: [warm_up(EPOCHS), fine_tune(EPOCHS)]),
    "the same, statistics of batches": (with_weights, lambda: [warm_up(EPOCHS), fine_tune(EPOCHS, batch_norm=True)]),
}
results = {}
for name, (make, phases) in RECIPES.items():
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        train, judge = task(seed)
        learner = TransferLearner(make(), 5)
        learner.fit(train, phases=phases(), batch_size=8, seed=seed, verbose=0)
        accuracy = learner.model.evaluate(*judge, batch_size=512, verbose=0)[1]
        results.setdefault(name, []).append(100 * accuracy)
    print(f"{name:32}{np.mean(results[name]):6.1f} %   " + "  ".join(f"{value:.1f}" for value in results[name]))

# %%
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.barh(list(results), [np.mean(values) for values in results.values()], color="#d8d8d8")
for seed in range(SEEDS):
    axis.plot([values[seed] for values in results.values()], list(results), "o", label=f"images {seed}")
axis.set(xlabel="accuracy on the other images of 5 to 9 (%)", xlim=(min(map(min, results.values())) - 5, 100))
axis.invert_yaxis()
axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# On three choices of fifteen images a few per cent are within the noise. What stands out: features of the digits 0 to 4
# alone are no better than starting from scratch, and fine-tuning them is. With the statistics of batches of eight the
# result depends more on which images were there.
