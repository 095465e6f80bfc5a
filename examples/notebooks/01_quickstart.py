# %% [markdown]
# # Quickstart: a network with and without regularization
#
# A network soon memorizes a hundred labeled images. Here the same network is trained on them twice, plain and with
# `keras_reg`. Both are evaluated on all other images.

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

EPOCHS = 5 if os.environ.get("KERAS_REG_SMOKE") == "1" else 150

# %% [markdown]
# The data are scikit-learn's digits, images of 8x8 pixels. Ten images per class are for training, and the other 1697
# for validation.

# %%
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
order = np.random.default_rng(0).permutation(len(labels))
chosen = np.stack([order[labels[order] == digit][:10] for digit in range(10)], axis=1).ravel()
others = np.setdiff1d(order, chosen)
x_train, y_train, x_val, y_val = images[chosen], labels[chosen], images[others], labels[others]


# %%
def network():
    keras.utils.set_random_seed(1)
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


def train(model, loss):
    rate = keras.optimizers.schedules.CosineDecay(3e-3, 2 * EPOCHS)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    data = {"validation_data": (x_val, y_val), "validation_freq": 5, "validation_batch_size": 1024}
    return model.fit(x_train, y_train, batch_size=50, epochs=EPOCHS, verbose=0, **data).history


# %% [markdown]
# First, train the plain network.

# %%
plain = train(network(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
print(f"training accuracy {plain['accuracy'][-1]:.1%}, validation accuracy {plain['val_accuracy'][-1]:.1%}")

# %% [markdown]
# Now train with augmentation: shifts by one pixel, erased boxes, and images that are mixed with other images, together
# with their labels. `RegularizedModel` augments inside the training step. Integer labels stay integers, and `evaluate`
# and `predict` use the plain network. The loss smooths the labels.

# %%
augmentation = keras_reg.layers.Pipeline(
    [
        keras_reg.layers.RandomPadCrop(1),
        keras_reg.layers.RandomErasing(rate=0.25, scale=(0.02, 0.1)),
        keras_reg.layers.RandomChoice([keras_reg.layers.MixUp(0.2), keras_reg.layers.CutMix(1.0)], mode="sample"),
    ],
    seed=1,
)
model = keras_reg.training.RegularizedModel(network(), augmentation)
regularized = train(model, keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True))
print(f"training accuracy {regularized['accuracy'][-1]:.1%}, validation accuracy {regularized['val_accuracy'][-1]:.1%}")

# %% [markdown]
# The plain network soon classifies all training images correctly and learns little afterwards. The regularized network
# almost never sees the same image twice. Its training accuracy is measured on augmented images, so it is lower than its
# validation accuracy.

# %%
epochs = range(5, EPOCHS + 1, 5)
for name, history, color in (("plain", plain, "#888888"), ("keras_reg", regularized, "#d0402b")):
    plt.plot(epochs, 100 * np.array(history["accuracy"][4::5]), ":", color=color, label=f"{name}, training")
    plt.plot(epochs, 100 * np.array(history["val_accuracy"]), color=color, label=f"{name}, validation")
plt.xlabel("epoch")
plt.ylabel("accuracy (%)")
plt.ylim(50, 101)
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# These are the images that the network is trained on. The augmentation also accepts one-hot labels and returns both.

# %%
shown, targets = augmentation(x_train[:16], np.eye(10, dtype="float32")[y_train[:16]])
shown, targets = keras.ops.convert_to_numpy(shown), keras.ops.convert_to_numpy(targets)
figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
for axis, image, target in zip(axes.flat, shown, targets, strict=False):
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    axis.set_title("\n".join(f"{k}: {target[k]:.2f}" for k in np.argsort(-target)[:2] if target[k] > 0.005), fontsize=9)
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# `model.model` is the plain network. Its file loads without this package.

# %%
model.model.save("digits.keras")
restored = keras.saving.load_model("digits.keras")
print(type(restored).__name__, np.argmax(restored.predict(x_val[:10], verbose=0), axis=-1), y_val[:10])
os.remove("digits.keras")
