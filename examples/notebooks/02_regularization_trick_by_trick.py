# %% [markdown]
# # Regularization, trick by trick
#
# Everybody has a list of tricks against overfitting. What does each of them do alone, and do they add up? One small
# network, ten labelled images of each digit, and eight tricks, each in one line.

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
from keras_reg.layers import CutMix, MixUp, Pipeline, RandomChoice, RandomErasing, RandomPadCrop
from keras_reg.losses import LabelSmoothingCrossentropy

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
SEEDS, EPOCHS = (1, 1) if SMOKE else (3, 80)

# %% [markdown]
# The data and the network. A seed decides which images are labelled, and where the weights begin.

# %%
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")


def data(seed):
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.stack([order[labels[order] == digit][:10] for digit in range(10)], axis=1).ravel()
    others = np.setdiff1d(order, chosen)
    return images[chosen], labels[chosen], images[others], labels[others]


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


# %% [markdown]
# The tricks. Some change the network: `surgery.regularize` puts them into a model that exists. Some change the loss.
# Most change the images, and the labels with them.

# %%
TRICKS = {
    "plain": {},
    "weight penalty": {"network": {"kernel_l2": 1e-3}},
    "dropout": {"network": {"dropout": 0.3}},
    "label smoothing": {"smoothing": 0.1},
    "shifts by a pixel": {"augmentation": [RandomPadCrop(1)]},
    "erasing": {"augmentation": [RandomErasing(0.5, scale=(0.02, 0.15))]},
    "MixUp": {"augmentation": [MixUp(0.4)]},
    "CutMix": {"augmentation": [CutMix(1.0, rate=0.5)]},
    "five of them": {
        "smoothing": 0.1,
        "augmentation": [
            RandomPadCrop(1),
            RandomErasing(0.25, scale=(0.02, 0.1)),
            RandomChoice([MixUp(0.2), CutMix(1.0)], mode="sample"),
        ],
    },
}

# %% [markdown]
# What those do that change images, to the same eight.

# %%
x, y, *_ = data(0)
shown = {name: trick["augmentation"] for name, trick in TRICKS.items() if "augmentation" in trick}
figure, axes = plt.subplots(1 + len(shown), 8, figsize=(7, 5.6))
for row, (name, augmentation) in zip(axes, {"plain": [], **shown}.items(), strict=True):
    changed, _ = Pipeline(augmentation, seed=7)(x[:8], np.eye(10, dtype="float32")[y[:8]]) if augmentation else (x, y)
    for axis, image in zip(row, keras.ops.convert_to_numpy(changed), strict=False):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")

# %% [markdown]
# Every trick trains three times, for the same number of steps.


# %%
def train(seed, network_changes=None, smoothing=0.0, augmentation=None):
    keras.utils.set_random_seed(seed)
    x, y, x_val, y_val = data(seed)
    model = network()
    if network_changes:
        model = keras_reg.surgery.regularize(model, **network_changes)
    if augmentation:
        model = keras_reg.training.RegularizedModel(model, Pipeline(augmentation, seed=seed))
    rate = keras.optimizers.schedules.CosineDecay(3e-3, 2 * EPOCHS)
    loss = LabelSmoothingCrossentropy(smoothing, from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=50, epochs=EPOCHS, verbose=0)
    return 100 * model.evaluate(x_val, y_val, batch_size=1024, verbose=0)[1]


results = {}
for name, trick in TRICKS.items():
    arguments = {"network_changes" if key == "network" else key: value for key, value in trick.items()}
    results[name] = [train(seed, **arguments) for seed in range(SEEDS)]
    print(f"{name:18}{np.mean(results[name]):6.1f} %   " + "  ".join(f"{value:.1f}" for value in results[name]))

# %% [markdown]
# Compare dots of one colour: there the same images were labelled. A difference of one per cent is within what the seed
# does.

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
axis.barh(list(results), [np.mean(values) for values in results.values()], color="#d8d8d8")
for seed in range(SEEDS):
    axis.plot([values[seed] for values in results.values()], list(results), "o", label=f"seed {seed}")
axis.set(xlabel="accuracy on the 1697 other images (%)", xlim=(min(map(min, results.values())) - 2, 100))
axis.invert_yaxis()
axis.legend(frameon=False, loc="upper right")
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# The gains do not add up: in these eighty epochs five tricks together get no further than the best one alone. What is
# harder to learn takes longer, too; the quickstart gives the same five 150 epochs. The best one, the shift, says what
# is true of digits: moved by a pixel, it is the same digit. The penalty on the weights says nothing about digits, and
# does nothing here. On data of your own the order will be another one, so try them alone before you put them together,
# and with more than one seed.
