"""What the programs that draw pictures of methods share: photographs, strips of images, curves, saving."""

import json
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from saved_runs import write
from sklearn.datasets import load_sample_images

NAMES = ("china", "flower")
GREY, RED, BLUE, GREEN = "#888888", "#d0402b", "#3a76af", "#2a7a3b"
PICTURES = {}
NUMBERS = {}  # of each picture that measures something: what its page says


def picture(function):
    """Registers a function that draws docs/figures/methods/<its name>.png."""
    PICTURES[function.__name__] = function
    return function


def measured(name, **numbers):
    """Keeps and prints means and standard deviations of arrays over their first axis, which is that of the seeds."""
    arrays = {key: np.asarray(values, "float64") for key, values in numbers.items()}
    NUMBERS[name] = {
        key: np.stack([x.mean(0), x.std(0, ddof=1)], axis=-1).round(4).tolist() for key, x in arrays.items()
    }
    print(name, NUMBERS[name])


def keep(path):
    """Saves the numbers of the pictures that were drawn beside those of other pictures."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write(json.dumps(dict(sorted((known | NUMBERS).items())), indent=1) + "\n", path)


def photos(size=160):
    """(2, size, size, 3) float32 in [0, 1]: china and flower."""
    corners = ((60, 0), (180, 0))
    squares = [
        Image.fromarray(image).crop((left, top, left + 427, top + 427)).resize((size, size), Image.Resampling.LANCZOS)
        for image, (left, top) in zip(load_sample_images().images, corners, strict=True)
    ]
    return np.stack([np.asarray(square, "float32") / 255 for square in squares])


def array(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def strip(images, titles, per_row=None, cmap=None, limits=(0, 1)):
    """One row of images, or several."""
    per_row = per_row or len(images)
    rows = -(-len(images) // per_row)
    figure, axes = plt.subplots(rows, per_row, figsize=(1.75 * per_row, 2.02 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(np.clip(image, *limits), cmap=cmap, vmin=limits[0], vmax=limits[1])
        axis.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.4, h_pad=1.5)
    return figure


def curves(width=8.4, height=3.0, columns=1):
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, (axes[0, 0] if columns == 1 else list(axes[0]))


def shares(label):
    """ "china 0.70, flower 0.30" of a soft label."""
    return "\n".join(f"{name} {share:.2f}" for name, share in zip(NAMES, label, strict=True) if share > 0.004)


def save(figure, path):
    """Saves a picture with 256 colors, which keeps the file small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, bbox_inches="tight", pad_inches=0.06)
    plt.close(figure)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    small.save(path, optimize=True)
