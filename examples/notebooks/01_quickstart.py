# %% [markdown]
# # Quickstart: a network with and without regularization
#
# The same network is trained twice on each of two tasks, plain and with `keras_reg`: on 100 labeled images, and on 800
# images of which 30 % have a wrong label. It is evaluated on all other images. `make quickstart` trains the same
# networks with three seeds.

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
from sklearn.model_selection import train_test_split

import keras_reg

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"

# %% [markdown]
# The data are scikit-learn's digits, images of 8x8 pixels.

# %%
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")


def split(labeled):
    return train_test_split(images, labels, train_size=labeled, stratify=labels, random_state=0)


# %% [markdown]
# The network is the one of "A first model". Both runs have the same optimizer and the same number of steps. The
# learning rate falls along half a cosine.


# %%
def make_network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),  # logits: no softmax
        ]
    )


def train(model, loss, data, epochs):
    x_train, x_test, y_train, y_test = data
    epochs = 2 if SMOKE else epochs
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-len(x_train) // 32))
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    test = {"validation_data": (x_test, y_test), "validation_batch_size": 1000}
    return model.fit(x_train, y_train, batch_size=32, epochs=epochs, verbose=0, **test).history["val_accuracy"]


# %% [markdown]
# First, train the plain network on 100 labels.

# %%
few = split(100)
plain = train(make_network(), keras.losses.SparseCategoricalCrossentropy(from_logits=True), few, 100)
print(f"accuracy on {len(few[1])} test images: {plain[-1]:.1%}")

# %% [markdown]
# Now train with augmentation: each image is shifted by up to one pixel, and half of the images are mixed with another
# image, together with their labels. `RegularizedModel` augments inside the training step. Integer labels stay integers,
# and `evaluate` and `predict` use the plain network. The loss smooths the labels.


# %%
def make_augmentation():
    mix = [keras_reg.layers.MixUp(1.0, rate=0.5), keras_reg.layers.CutMix(1.0, rate=0.5)]
    return keras_reg.layers.Pipeline(
        [keras_reg.layers.RandomPadCrop(1), keras_reg.layers.RandomChoice(mix, mode="sample")], seed=0
    )


network = make_network()
model = keras_reg.training.RegularizedModel(network, make_augmentation())
loss = keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
regularized = train(model, loss, few, 100)
print(f"accuracy on {len(few[1])} test images: {regularized[-1]:.1%}")

# %% [markdown]
# These are images that the network is trained on. The augmentation also accepts one-hot labels and returns both.

# %%
shown, targets = make_augmentation()(few[0][:16], np.eye(10, dtype="float32")[few[2][:16]])
shown, targets = keras.ops.convert_to_numpy(shown), keras.ops.convert_to_numpy(targets)
figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
for axis, image, target in zip(axes.flat, shown, targets, strict=False):
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    axis.set_title("\n".join(f"{k}: {target[k]:.2f}" for k in np.argsort(-target)[:2] if target[k] > 0.005), fontsize=9)
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# Next, 30 % of 800 training labels are replaced by another digit. The labels of the test images are true.

# %%
wrong = split(800)
random = np.random.default_rng(0)
chosen = random.permutation(800)[:240]
wrong[2][chosen] = (wrong[2][chosen] + random.integers(1, 10, len(chosen))) % 10

plain = train(make_network(), keras.losses.SparseCategoricalCrossentropy(from_logits=True), wrong, 40)
model = keras_reg.training.RegularizedModel(make_network(), make_augmentation())
regularized = train(model, loss, wrong, 40)

# %%
for name, curve, color in (("plain", plain, "#6e7781"), ("keras_reg", regularized, "#c8321f")):
    plt.plot(range(1, len(curve) + 1), 100 * np.array(curve), color=color, label=f"{name}, {curve[-1]:.1%} at the end")
plt.xlabel("epoch")
plt.ylabel("accuracy on the test images (%)")
plt.ylim(70, 100)
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# The plain network first learns the digits, then the wrong labels. Its best epoch is good, but only clean labels show
# when to stop. At a learning rate of 3e-4, it learns the wrong labels more slowly, and 40 epochs end close to its peak:
# `make quickstart` has this run as well. The regularized network has no such peak.

# %% [markdown]
# `model.model` is the plain network. Its file loads without this package.

# %%
model.model.save("digits.keras")
restored = keras.saving.load_model("digits.keras")
print(type(restored).__name__, np.argmax(restored.predict(wrong[1][:10], verbose=0), axis=-1), wrong[3][:10])
os.remove("digits.keras")
