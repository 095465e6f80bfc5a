# %% [markdown]
# # MixUp and CutMix, in tf.data and in the training step
#
# Both layers make one image out of two. MixUp blends the images, and CutMix pastes a box of one image into the other.
# The label should state the share of each image. This notebook shows both layers, checks their labels, and runs them in
# `tf.data` and in the training step.

# %% [markdown]
# The next cell is for Colab. If `keras_reg` is missing, the cell installs it from a wheel in the folder of this
# notebook. `make wheel` in a clone builds the wheel, since there is no release on PyPI yet.

# %%
import importlib.util
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # tf.data works with all backends
if importlib.util.find_spec("keras_reg") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q keras_reg-*.whl")

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits, load_sample_images

import keras_reg
from keras_reg.layers import CutMix, MixUp, RandomChoice

EPOCHS = 2 if os.environ.get("KERAS_REG_SMOKE") == "1" else 100
numpy = keras.ops.convert_to_numpy

# %% [markdown]
# Mix two photographs and their labels. Each photograph is the partner of the other.

# %%
photos = np.stack(load_sample_images().images)[:, ::4, ::4].astype("float32")
one_hot = np.eye(2, dtype="float32")  # temple, flower
figure, axes = plt.subplots(2, 4, figsize=(11, 4.2), dpi=60)
for row, layer in zip(axes, (MixUp(1.0, seed=3), CutMix(1.0, seed=3)), strict=True):
    for axis in row:
        mixed, labels = layer(photos, one_hot)
        axis.imshow(numpy(mixed)[0].astype("uint8"))
        axis.set_title("temple {:.2f}, flower {:.2f}".format(*numpy(labels)[0]), fontsize=9)
        axis.axis("off")
figure.tight_layout()

# %% [markdown]
# The share of the partner follows Beta(alpha, alpha). A small `alpha` leaves most images nearly unchanged.
#
# Is the label correct? White and black images answer this: the mean of a mixed image is the share of white pixels, and
# its label should have the same value. The box has whole pixels, so its area differs slightly from the random number.
# The label must be computed from the area of the box. Keras' own CutMix computes it from the random number.

# %%
white = np.concatenate([np.ones((256, 32, 32, 1)), np.zeros((256, 32, 32, 1))]).astype("float32")
labels = np.eye(2, dtype="float32")[np.repeat([0, 1], 256)]
order = np.random.default_rng(0).permutation(512)
white, labels = white[order], labels[order]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
for alpha in (0.2, 1.0, 4.0):
    _, mixed = MixUp(alpha, seed=0)(np.zeros((2000, 1, 1, 1), "float32"), np.eye(2000, dtype="float32"))
    left.hist(numpy(mixed).diagonal(), bins=40, histtype="step", density=True, label=f"alpha = {alpha}")
left.set(xlabel="share of the first image", ylabel="density", title="MixUp: distribution of the shares")
left.legend(frameon=False)
batch = {"images": white, "labels": labels}
for name, layer in (("Keras' CutMix", keras.layers.CutMix(1.0, seed=0)), ("keras_reg's CutMix", CutMix(1.0, seed=0))):
    mixed = layer(dict(batch))
    share, said = numpy(mixed["images"]).mean((1, 2, 3)), numpy(mixed["labels"])[:, 0]
    right.plot(share, said - share, ".", markersize=3, label=name)
    print(f"{name:20} label and pixels differ by {abs(said - share).max():.4f} at most")
right.set(xlabel="share of white pixels", ylabel="label - share", title="CutMix: error of the label")
right.legend(frameon=False)
figure.tight_layout()

# %% [markdown]
# ## In tf.data
#
# Map the layer over batches. Integer labels become one-hot, since a mixed label is not an integer. The loss and the
# metric must accept one-hot labels. `num_parallel_calls` is safe, since two batches never get the same random numbers.

# %%
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
order = np.random.default_rng(0).permutation(len(labels))
chosen = np.stack([order[labels[order] == digit][:10] for digit in range(10)], axis=1).ravel()
others = np.setdiff1d(order, chosen)
x, y, x_val, y_val = images[chosen], labels[chosen], images[others], labels[others]


def mixing(**arguments):
    return RandomChoice([MixUp(0.4, **arguments), CutMix(1.0, **arguments)], mode="sample", seed=0)


dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(100, seed=0).batch(50)
dataset = dataset.map(mixing(num_classes=10), num_parallel_calls=tf.data.AUTOTUNE)
for batch in dataset.take(1):
    print(*(f"{part.dtype.name} {part.shape}" for part in batch))
    print(np.round(batch[1][0], 2))


# %%
def train(model, loss, *data, **arguments):
    rate = keras.optimizers.schedules.CosineDecay(3e-3, 2 * EPOCHS)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model.fit(*data, epochs=EPOCHS, validation_freq=2, verbose=0, **arguments).history


def network():
    keras.utils.set_random_seed(0)
    convolutions = [keras.layers.Conv2D(filters, 3, padding="same", activation="relu") for filters in (16, 32, 64)]
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *convolutions[:2],
            keras.layers.MaxPooling2D(),
            convolutions[2],
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


dense = keras.losses.CategoricalCrossentropy(from_logits=True)
one_hot_val = (x_val, np.eye(10, dtype="float32")[y_val])
curves = {"in tf.data": train(network(), dense, dataset, validation_data=one_hot_val)}

# %% [markdown]
# ## In the training step
#
# `RegularizedModel` mixes on the device, inside the compiled training step. Labels stay integers, the loss and the
# metrics do not change, and `fit` accepts plain arrays. The code is shorter, and it works without TensorFlow.

# %%
sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
arguments = {"batch_size": 50, "validation_data": (x_val, y_val)}
augmented = keras_reg.training.RegularizedModel(network(), mixing())
curves["in the training step"] = train(augmented, sparse, x, y, **arguments)
curves["not at all"] = train(network(), sparse, x, y, **arguments)

# %% [markdown]
# The two places differ in convenience and speed, but not in the result. The upper two curves differ no more than two
# seeds do.

# %%
for name, history in curves.items():
    accuracy = 100 * np.array(history["val_accuracy"])
    plt.plot(range(2, EPOCHS + 1, 2), accuracy, label=f"mixed {name}: {accuracy[-1]:.1f} %")
plt.ylim(60, 100)
plt.xlabel("epoch")
plt.ylabel("validation accuracy (%)")
plt.legend(frameon=False)
plt.show()
