# %% [markdown]
# # Comparing the augmentation policies of libraries
#
# This script measures seven properties of keras_reg and Keras, and the last one also of torchvision.
#
# 1. Equalize: the share of images whose result changes if the other images of the batch change.
# 2. Auto contrast with channels first: the share of values that differ from those with channels last.
# 3. Invert in the range (-1, 1): the largest error.
# 4. RandAugment with one operation: the share of batches in which either all images are recolored or none is.
# 5. AugMix: whether two layers with one seed return the same.
# 6. Rotation by nearest neighbors: the share of pixels of an integer mask that differ from those of the same image.
# 7. RandAugment with operations that move pixels: what happens to a box.

# %%
import importlib
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from compare_libraries import compare, given, numpy_of

import keras_reg

BATCHES, COUNT = 40, 16
BYTES = (0, 255)


def share(differ):
    return f"{np.mean(differ):.3f}"


def images(size=32, seed=0):
    """Integers from 0 to 255. The images are dark or bright, so their histograms differ."""
    rng = np.random.default_rng(seed)
    return np.floor(rng.random((COUNT, size, size, 3)) * rng.uniform(50, 250, (COUNT, 1, 1, 1))).astype("float32")


# %% [markdown]
# One function per question. `layer` makes a layer of the library.


# %%
def depends_on_others(layer):
    first, other = images(), images(seed=1)
    other[0] = first[0]
    mixed = [numpy_of(layer()(np.roll(batch, at, 0)))[0][at] for at in range(COUNT) for batch in (first, other)]
    return share([(a != b).any() for a, b in zip(mixed[::2], mixed[1::2], strict=True)])


def error_of_channels_first(layer):
    last = numpy_of(layer("channels_last")(images()))[0]
    first = numpy_of(layer("channels_first")(images().transpose(0, 3, 1, 2)))[0]
    return share(np.abs(first.transpose(0, 2, 3, 1) - last) > 0.01)


def error_of_inverted(layer):
    x = np.linspace(-1, 1, 4 * 4 * 3, dtype="float32").reshape(1, 4, 4, 3)
    return f"{np.abs(numpy_of(layer()(x))[0] + x).max():.3f}"


def batches_of_one_kind(layer):
    """An operation that moves pixels leaves the center of an image of one color."""
    color = np.asarray([60.0, 120.0, 200.0], "float32") * np.ones((COUNT, 33, 33, 1), "float32")
    augment, found = layer(), []
    for _ in range(BATCHES):
        changed = (np.abs(numpy_of(augment(color))[0][:, 16, 16] - color[:, 16, 16]) > 1).any(-1)
        found.append(changed.all() or not changed.any())
    return share(found)


def repeats(layer):
    first, second = (numpy_of(layer()(images()))[0] for _ in range(2))
    return "the same" if (first == second).all() else "other images"


def error_of_masks(layer):
    ids = np.random.default_rng(0).integers(0, 250, (COUNT, 33, 33, 1))
    found = layer()({"images": ids.astype("float32"), "segmentation_masks": ids.astype("int32")})
    image, mask = numpy_of(found["images"], found["segmentation_masks"])
    return share(image[:, 8:25, 8:25] != mask[:, 8:25, 8:25])


def fate_of_box(call):
    """What a policy does to a box: `call` returns corners for (4, 4, 12, 12) in each of many images."""
    try:
        boxes = call(np.tile(np.float32([4, 4, 12, 12]), (COUNT, 1, 1)))
    except Exception as error:
        return type(error).__name__
    return "moves it" if (np.abs(boxes - [4, 4, 12, 12]) > 0.5).any() else "leaves it"


# %%
def boxed(layer):
    def call(corners):
        boxes = {"boxes": corners, "labels": np.zeros((COUNT, 1), "int32")}
        found = layer()({"images": images(), "bounding_boxes": boxes})
        return numpy_of(found["bounding_boxes"]["boxes"])[0]

    return call


def ask_keras_reg():
    layers = keras_reg.layers

    def only(name, value_range=BYTES, **arguments):
        return layers.RandAugment(1, operations=[name], value_range=value_range, **arguments)

    return [
        depends_on_others(lambda: only("equalize")),
        error_of_channels_first(lambda order: only("auto_contrast", data_format=order)),
        error_of_inverted(lambda: only("invert", (-1, 1))),
        batches_of_one_kind(lambda: layers.RandAugment(1, value_range=BYTES, seed=1)),
        repeats(lambda: layers.AugMix(value_range=BYTES, seed=1)),
        error_of_masks(lambda: layers.RandomAffine(90, interpolation="nearest", seed=1)),
        fate_of_box(boxed(lambda: layers.RandAugment(value_range=BYTES, bounding_box_format="xyxy", seed=1))),
    ]


def ask_keras():
    layers = keras.layers
    return [
        depends_on_others(lambda: layers.Equalization(BYTES)),
        error_of_channels_first(lambda order: layers.AutoContrast(BYTES, data_format=order)),
        error_of_inverted(lambda: layers.RandomInvert((1.0, 1.0), (-1, 1))),
        batches_of_one_kind(lambda: layers.RandAugment(BYTES, num_ops=1, seed=1)),
        repeats(lambda: layers.AugMix(BYTES, seed=1)),
        error_of_masks(lambda: layers.RandomRotation(0.25, interpolation="nearest", seed=1)),
        fate_of_box(boxed(lambda: layers.RandAugment(BYTES, bounding_box_format="xyxy", seed=1))),
    ]


def ask_torchvision():
    import torch

    v2 = importlib.import_module("torchvision.transforms.v2")
    tv_tensors = importlib.import_module("torchvision.tv_tensors")
    torch.manual_seed(1)

    def call(corners):
        image = tv_tensors.Image(torch.zeros(3, 32, 32, dtype=torch.uint8))
        boxes = tv_tensors.BoundingBoxes(torch.tensor(corners[0]), format="XYXY", canvas_size=(32, 32))
        return np.stack([v2.RandAugment()(image, boxes)[1].numpy() for _ in range(COUNT)])

    return ["", "", "", "", "", "", fate_of_box(call)]


LIBRARIES = {"keras_reg": ask_keras_reg, "keras": ask_keras, "torchvision": ask_torchvision}
QUESTIONS = (
    "equalize: depend on others",
    "auto contrast, channels first",
    "invert: largest error",
    "RandAugment: one kind",
    "AugMix with one seed",
    "rotated masks: other pixels",
    "RandAugment: a box",
)


# %%
def main(names=tuple(LIBRARIES), save=None):
    return compare({name: LIBRARIES[name] for name in names}, QUESTIONS, save)


if __name__ == "__main__":
    main(*given(LIBRARIES))
