# %% [markdown]
# # After training
#
# Training ends with one set of weights. What can be gained after that? Average weights or predictions, and correct the
# confidence of the network. Each of these takes a few lines. This notebook measures what they do to accuracy, to the
# negative log-likelihood and to calibration.

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

from keras_reg import callbacks, inference, layers, metrics, surgery, training

SMOKE = os.environ.get("KERAS_REG_SMOKE") == "1"
EPOCHS, MEMBERS = (6, 2) if SMOKE else (100, 5)

# %% [markdown]
# There are 100 labeled digits for training. Another 100 are for the temperature below, and 1597 for the test.

# %%
images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
x_train, x_test, y_train, y_test = train_test_split(images, labels, train_size=100, stratify=labels, random_state=0)
x_val, y_val, x_test, y_test = x_test[:100], y_test[:100], x_test[100:], y_test[100:]


def build(seed):
    keras.utils.set_random_seed(seed)
    convolutions = [keras.layers.Conv2D(32, 3, padding="same", activation="relu") for _ in range(2)]
    dense = [keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *convolutions, keras.layers.MaxPooling2D(), keras.layers.Flatten(), *dense]
    )


def compiled(model, cosine=True):
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * 4) if cosine else 3e-3  # four steps per epoch
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    error = metrics.ExpectedCalibrationError(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy", error])
    return model


def train(network, augmentation=None, cosine=True, **arguments):
    model = training.RegularizedModel(network, augmentation) if augmentation else network
    compiled(model, cosine).fit(x_train, y_train, batch_size=32, epochs=EPOCHS, verbose=0, **arguments)
    return compiled(network)


results = {}


def judge(name, model):
    found = model.evaluate(x_test, y_test, batch_size=500, verbose=0, return_dict=True)
    results[name] = [found["accuracy"], found["loss"], found["expected_calibration_error"]]
    accuracy, nll, ece = results[name]
    print(f"{name:36} accuracy {100 * accuracy:.1f} %, NLL {nll:.3f}, calibration error {100 * ece:.1f} %")


# %% [markdown]
# ## One network, and its temperature
#
# A network that was trained to a training loss near 0 is overconfident: its probabilities are larger than its accuracy.
# `calibrate` divides its logits by a temperature, which it fits to labeled images that were not used for training. The
# predicted classes stay the same.

# %%
network = train(build(0))
judge("one network", network)
calibrated = inference.calibrate(network, (x_val, y_val))
judge("one network, calibrated", calibrated)
print(f"temperature {1 / calibrated.get_layer('temperature').scale:.2f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axis, model, name in zip(axes, (network, calibrated), ("as trained", "calibrated"), strict=True):
    inference.reliability(model, (x_test, y_test), bins=10, ax=axis)
    axis.set_title(f"{name}: {axis.get_title()}", fontsize=10)
plt.show()

# %% [markdown]
# ## An average of the weights
#
# `WeightAverage` averages the weights during training. After `fit`, the network has the average. It costs nothing in
# prediction.

# %%
judge("average of the weights", train(build(0), callbacks=[callbacks.WeightAverage(decay=0.99)]))

# %% [markdown]
# ## Snapshots of one training
#
# `SnapshotEnsemble` restarts the learning rate several times, and keeps the weights before each restart. Average their
# predictions, which takes one pass for each of them, or their weights, which takes one pass.

# %%
snapshots = callbacks.SnapshotEnsemble(cycles=3)
train(build(0), cosine=False, callbacks=[snapshots])
judge("three snapshots", inference.ensemble(snapshots.models()))
judge("mean of their weights", inference.soup(snapshots.models(), greedy=False))

# %% [markdown]
# ## An ensemble
#
# Train several networks with different initial weights, and average their probabilities. The result is one Keras model
# without any layer of this package.

# %%
members = [network, *(train(build(seed)) for seed in range(1, MEMBERS))]
combined = inference.ensemble(members)
judge(f"ensemble of {MEMBERS}", combined)
judge(f"ensemble of {MEMBERS}, calibrated", inference.calibrate(combined, (x_val, y_val)))
combined.save("ensemble.keras")
loaded = keras.saving.load_model("ensemble.keras")
difference = loaded.predict(x_test, verbose=0) - combined.predict(x_test, verbose=0)
print("largest difference after loading:", abs(difference).max())

# %% [markdown]
# ## Several views of each image
#
# `TestTimeAugmentation` averages the predictions for several views of each image: flips, crops, or draws of an
# augmentation. Digits must not be mirrored, so shift them. Does that help a network that has never seen shifted digits,
# and one that was trained with them?

# %%
shift = layers.RandomPadCrop(1, seed=0)
judge("eight shifted views", inference.TestTimeAugmentation(network, shift, samples=8))
shifted = train(build(0), layers.RandomPadCrop(1, seed=1))
judge("trained with shifts", shifted)
judge("trained with shifts, eight views", inference.TestTimeAugmentation(shifted, shift, samples=8))
judge("trained with shifts, calibrated", inference.calibrate(shifted, (x_val, y_val)))

# %% [markdown]
# ## Dropout in prediction
#
# `MonteCarlo` keeps dropout on in prediction, and returns the mean of several passes with its uncertainty. The mutual
# information is large if the passes disagree. Compare the digits with images of the same pixels in random order, which
# show nothing.

# %%
dropped = train(surgery.regularize(build(0), dropout=0.5))
judge("trained with dropout", dropped)
drawing = inference.MonteCarlo(dropped, samples=20, seed=0)
judge("trained with dropout, MonteCarlo", drawing)

shuffled = np.random.default_rng(0).permuted(x_test.reshape(len(x_test), -1), axis=1).reshape(x_test.shape)
figure, axis = plt.subplots(figsize=(6, 3))
for inputs, name in ((x_test, "digits"), (shuffled, "shuffled pixels")):
    found = drawing.predict(inputs, batch_size=500, verbose=0)
    axis.hist(found["mutual_information"], bins=np.linspace(0, 1.2, 49), density=True, alpha=0.6, label=name)
axis.set(xlabel="mutual information (nats)", ylabel="density")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Comparison

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 0.3 * len(results) + 1), sharey=True, layout="constrained")
titles = ("test accuracy (%)", "negative log-likelihood", "calibration error (%)")
for axis, title, column, factor in zip(axes, titles, zip(*results.values(), strict=True), (100, 1, 100), strict=True):
    axis.barh(list(results), [factor * value for value in column], color="#7a9cc6")
    axis.set_xlabel(title)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_xlim(100 * min(value[0] for value in results.values()) - 2, 100)
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# On these few labels, shifts during training gain more than anything that is done afterwards. Without them, the
# ensemble of five gains most, and it takes five times the training and prediction. The temperature lowers the negative
# log-likelihood of each overconfident network, and costs nothing in prediction. The average of the weights and the
# snapshots change little here. Averaging over shifts that the network has not been trained with makes it much worse.
# This is one split of the data. The page "After training" of the documentation has three, with more methods.
