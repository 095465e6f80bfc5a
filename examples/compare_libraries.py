# %% [markdown]
# # Comparing the correctness of libraries
#
# This script measures four properties of each installed library: keras_reg, Keras, KerasCV, timm and torchvision.
#
# 1. CutMix: the difference between the weight of a label and the share of pixels that its image keeps.
# 2. Random erasing with probability 0.5: the share of images that are erased.
# 3. DropBlock with rate 0.1 and blocks of 7: the share of units that are dropped, on square and other maps.
# 4. MixUp with integer labels and without the number of classes: the result.

# %%
import argparse
import importlib
import importlib.metadata
import json
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_reg

COUNT = 500
MAPS = {"14 x 14": (14, 14), "8 x 8": (8, 8), "20 x 12": (20, 12)}


# %% [markdown]
# The pixels of each image contain its index, and so does its label. Both can be read from a mixed batch.


# %%
def numbered():
    images = np.arange(COUNT, dtype="float32").reshape(-1, 1, 1, 1) * np.ones((1, 32, 32, 1), "float32")
    return images, np.eye(COUNT, dtype="float32")


def label_error(images, labels):
    """Mean and maximum of the difference between the weight of an image's label and its share of pixels."""
    own = (images == np.arange(COUNT).reshape(-1, 1, 1, 1)).mean((1, 2, 3))
    error = np.abs(np.diag(labels) - own)
    return f"{error.mean():.3f} mean, {error.max():.3f} max"


def numpy_of(*arrays):
    return [np.asarray(keras.ops.convert_to_numpy(array)) for array in arrays]


def outcome(function):
    """The result of a call, or its error, in a few words."""
    try:
        return f"labels {tuple(function().shape)}"
    except Exception as error:
        return type(error).__name__


# %% [markdown]
# One function per library returns the four measurements in order. Libraries for PyTorch use channels first.


# %%
def of_keras_like(mixers, erasing, drop_block):
    images, labels = numbered()
    cut = mixers.CutMix(1.0, seed=1)({"images": keras.ops.array(images), "labels": keras.ops.array(labels)})
    erased = "" if erasing is None else numpy_of(erasing(np.ones((4 * COUNT, 16, 16, 1), "float32")))[0]
    mixed = outcome(
        lambda: mixers.MixUp(seed=1)({"images": images[:8], "labels": np.arange(8, dtype="int32")})["labels"]
    )
    return [
        label_error(*numpy_of(cut["images"], cut["labels"])),
        f"{(erased == 0).any((1, 2, 3)).mean():.3f}" if len(erased) else "",
        "" if drop_block is None else shares(lambda x: drop_block(x, training=True)),
        mixed,
    ]


def shares(drop, channels_first=False):
    found = []
    for name, size in MAPS.items():
        shape = (COUNT, 4, *size) if channels_first else (COUNT, *size, 4)
        found.append(f"{name}: {(numpy_of(drop(np.ones(shape, 'float32')))[0] == 0).mean():.3f}")
    return ", ".join(found)


def ask_keras_reg():
    layers = keras_reg.layers
    return of_keras_like(layers, layers.RandomErasing(0.5, seed=1), layers.DropBlock2D(0.1, 7, seed=1))


def ask_keras():
    return of_keras_like(
        keras.layers, keras.layers.RandomErasing(0.5, fill_value=0.0, value_range=(0, 1), seed=1), None
    )


def ask_keras_cv():
    layers = importlib.import_module("keras_cv").layers
    return of_keras_like(layers, None, layers.DropBlock2D(0.1, 7, seed=1))


def of_torch(cut, erase, drop, mix):
    import torch

    torch.manual_seed(1)
    np.random.seed(1)
    images = numbered()[0]
    mixed = cut(torch.tensor(images).permute(0, 3, 1, 2), torch.arange(COUNT))
    erased = torch.stack([erase(image) for image in torch.ones(4 * COUNT, 1, 16, 16)])
    return [
        label_error(mixed[0].permute(0, 2, 3, 1).numpy(), mixed[1].numpy()),
        f"{(erased == 0).any(3).any(2).any(1).float().mean().item():.3f}",
        shares(lambda x: drop(torch.tensor(x)).numpy(), channels_first=True),
        outcome(lambda: mix(torch.ones(8, 3, 8, 8), torch.arange(8))[1]),
    ]


def ask_timm():
    mixup = importlib.import_module("timm.data.mixup").Mixup
    erasing = importlib.import_module("timm.data.random_erasing").RandomErasing
    cut = mixup(0.0, 1.0, mode="elem", label_smoothing=0.0, num_classes=COUNT)
    drop = importlib.import_module("timm.layers").DropBlock2d(0.1, 7).train()
    return of_torch(cut, erasing(0.5, device="cpu"), drop, mixup(0.2, num_classes=1000))


def ask_torchvision():
    v2 = importlib.import_module("torchvision.transforms.v2")
    drop = importlib.import_module("torchvision.ops").DropBlock2d(0.1, 7).train()
    return of_torch(v2.CutMix(num_classes=COUNT), v2.RandomErasing(0.5), drop, v2.MixUp(alpha=0.2))


LIBRARIES = {"keras_reg": ask_keras_reg, "keras": ask_keras, "keras_cv": ask_keras_cv, "timm": ask_timm}
LIBRARIES["torchvision"] = ask_torchvision
QUESTIONS = ("CutMix: label error", "erased at 0.5", "dropped at 0.1", "MixUp of integer labels")


# %%
def compare(libraries, questions, save=None):
    """Prints the answers of each library, a function that returns them in order, and returns {library: answers}."""
    answers, versions = {}, {}
    for name, ask in libraries.items():
        try:
            answers[name] = ask()
        except Exception as error:
            print(f"{name}: skipped, {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n")
            continue
        versions[name] = importlib.metadata.version(name.replace("_", "-"))
        print(f"{name} {versions[name]}")
        for question, answer in zip(questions, answers[name], strict=True):
            print(f"  {question:30} {answer or 'not available'}")
        print()
    if save:
        found = json.loads(save.read_text()) if save.exists() else {}
        rows = {
            name: {"version": versions[name]} | dict(zip(questions, found, strict=True))
            for name, found in answers.items()
        }
        save.write_text(json.dumps(dict(sorted((found | {keras.backend.backend(): rows}).items())), indent=1) + "\n")
    return answers


def given(libraries):
    """Returns the names of libraries and the file that were given on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(libraries), help="libraries to compare (default: all)")
    parser.add_argument("--json", type=pathlib.Path, help="file for the answers, beside those of other backends")
    arguments = parser.parse_args()
    return arguments.names, arguments.json


def main(names=tuple(LIBRARIES), save=None):
    return compare({name: LIBRARIES[name] for name in names}, QUESTIONS, save)


if __name__ == "__main__":
    main(*given(LIBRARIES))
