# %% [markdown]
# # Regularization, trick by trick
#
# There are many tricks against overfitting. How much does each of them help alone, and do they add up? This
# notebook tries seven tricks and one combination on a small network, with ten labeled images per digit. Each trick is
# one line.

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
from keras_reg.layers import CutMix, MixUp, Pipeline, RandomChoice, RandomErasing, RandomPadCrop
from keras_reg.losses import LabelSmoothingCrossentropy

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
SEEDS, EPOCHS = (1, 1) if SMOKE else (3, 80)

# %% [markdown]
# This cell defines the data and the network. The seed selects the labeled images and the initial weights.

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
# These are the tricks. Some change the network: `surgery.regularize` adds them to an existing model. Some change the
# loss. Most change the images, some of them together with the labels.

# %%
TRICKS = {
    "plain": {},
    "weight penalty": {"network": {"kernel_l2": 1e-3}},
    "dropout": {"network": {"dropout": 0.3}},
    "label smoothing": {"smoothing": 0.1},
    "shifts by one pixel": {"augmentation": [RandomPadCrop(1)]},
    "erasing": {"augmentation": [RandomErasing(0.5, scale=(0.02, 0.15))]},
    "MixUp": {"augmentation": [MixUp(0.4)]},
    "CutMix": {"augmentation": [CutMix(1.0, rate=0.5)]},
    "five combined": {
        "smoothing": 0.1,
        "augmentation": [
            RandomPadCrop(1),
            RandomErasing(0.25, scale=(0.02, 0.1)),
            RandomChoice([MixUp(0.2), CutMix(1.0)], mode="sample"),
        ],
    },
}

# %% [markdown]
# This figure shows the tricks that change images, applied to the same eight images.

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
# Train with each trick three times, for the same number of steps.


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
# Compare dots of the same color, since those networks were trained on the same images. A difference of one percentage
# point is within the variation between seeds.

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
axis.barh(list(results), [np.mean(values) for values in results.values()], color="#d8d8d8")
for seed in range(SEEDS):
    axis.plot([values[seed] for values in results.values()], list(results), "o", label=f"seed {seed}")
axis.set(xlabel="validation accuracy (%)", xlim=(min(map(min, results.values())) - 2, 100))
axis.invert_yaxis()
axis.legend(frameon=False, loc="upper right")
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# The gains do not add up. In these eighty epochs, five tricks together are no better than the best one alone. A harder
# task also takes longer to learn. The best trick, the shift, uses knowledge about digits, since a digit that is moved
# by one pixel is still the same digit. The weight penalty contains no such knowledge and does not help here. The order
# will differ on your data, so try each trick alone before you combine them, and use more than one seed. The page
# "Measured effects" of the documentation does so for all methods, with another network and with strengths that were
# chosen on other splits.
