# %% [markdown]
# # The pictures of the explorer
#
# `docs/explorer.md` shows what a layer does while a slider moves one of its arguments. Its pictures are made here, by
# calling the library: for each layer one sheet per data set, with a row per value of the argument and a column per
# image. All values use the same random numbers, so the pictures change smoothly.
#
# `python examples/explorer_pictures.py` writes them to docs/explorer/.

# %%
import argparse
import dataclasses
import json
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from keras_reg import layers

OUT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "explorer"
PHOTO, PHOTOS, DIGITS = 112, 6, 10  # pixels of a photograph, and how many images are shown
SEED = 8

# %% [markdown]
# The layers, with the argument that the slider moves. `{}` is its value.


# %%
@dataclasses.dataclass(frozen=True)
class Experiment:
    code: str  # as users write it
    values: tuple
    argument: str
    about: str
    digits: tuple | None = None  # other values for images of 8x8, or () if there are none
    digits_code: str | None = None

    @property
    def layer(self):
        return self.code.split("(")[0]

    @property
    def name(self):
        return f"{self.layer}_{self.argument}".lower().replace(" ", "_")


SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
RATES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
ALPHAS = (0.05, 0.1, 0.2, 0.4, 1.0, 2.0, 8.0)
EXPERIMENTS = [
    Experiment("CutMix(alpha={})", ALPHAS, "alpha", "With a small alpha, boxes are nearly empty or nearly full."),
    Experiment("CutMix(rate={})", RATES, "rate", "The probability that an image is mixed."),
    Experiment("MixUp(alpha={})", ALPHAS, "alpha", "With a small alpha, most images stay nearly as they are."),
    Experiment("MixUp(alpha=1.0, rate={})", RATES, "rate", "The probability that an image is mixed."),
    Experiment("RandomErasing(rate={})", RATES, "rate", "The probability that a box of the image is erased."),
    Experiment(
        "RandomErasing(rate=1.0, scale=({0}, {0}))", SHARES, "area", "The share of the image that is erased.",
        SHARES[1:],
    ),
    Experiment(
        "RandomPadCrop(padding={})", (0, 4, 8, 12, 16, 24, 32), "padding",
        "Images are shifted by up to this many pixels. The uncovered border becomes 0.", (0, 1, 2, 3),
    ),
    Experiment(
        "RandomResizedCrop(112, scale=({}, 1.0))", (1.0, 0.8, 0.6, 0.4, 0.2, 0.08), "scale",
        "The smallest share of the image that a crop may show.", (),
    ),
    Experiment(
        "PCAColorJitter(stddev={}, value_range=(0, 1))", (0.0, 0.05, 0.1, 0.2, 0.5, 1.0), "stddev",
        "Colors move along the principal components of the data.", (),
    ),
    Experiment(
        "DropBlock2D(rate={}, block_size=15, per_channel=False)", (0.0, 0.05, 0.1, 0.2, 0.3, 0.5), "rate",
        "The share of a feature map that is dropped; the rest is scaled up.", None,
        "DropBlock2D(rate={}, block_size=3)",
    ),
]  # fmt: skip

# %% [markdown]
# The images: two photographs, and a digit of each class.


# %%
def photos(size=PHOTO):
    """(2, size, size, 3) in [0, 1], their labels, and the names of their classes."""
    corners = ((60, 0), (180, 0))
    squares = [
        Image.fromarray(image).crop((left, top, left + 427, top + 427)).resize((size, size), Image.Resampling.LANCZOS)
        for image, (left, top) in zip(load_sample_images().images, corners, strict=True)
    ]
    return np.stack([np.asarray(s, "float32") / 255 for s in squares]), np.eye(2, dtype="float32"), ["china", "flower"]


def digits():
    """(10, 8, 8, 1) in [0, 1], their labels, and the names of their classes."""
    images, classes = load_digits(return_X_y=True)
    chosen = [np.flatnonzero(classes == i)[0] for i in range(DIGITS)]
    images = (images[chosen].reshape(-1, 8, 8, 1) / 16).astype("float32")
    return images, np.eye(DIGITS, dtype="float32"), [str(i) for i in range(DIGITS)]


def array(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def make(code, images):
    """The layer that `code` describes."""
    layer = eval(f"layers.{code.removesuffix(')')}, seed={SEED})", {"layers": layers})
    if isinstance(layer, layers.PCAColorJitter):
        layer.adapt(images)
    if isinstance(layer, layers.DropBlock2D):
        layer.build(images.shape)
    return layer


def apply(layer, images, labels):
    """Images and labels as training sees them."""
    if isinstance(layer, layers.DropBlock2D):
        return array(layer(images, training=True)), labels
    return [array(x) for x in layer(images, labels)]


def drawn(code, data, count):
    """`count` images and labels of the layer. It is called on the whole data, as often as that takes."""
    images, labels, _ = data
    layer = make(code, images)
    found = [apply(layer, images, labels) for _ in range(-(-count // len(images)))]
    return [np.concatenate([pair[i] for pair in found])[:count] for i in (0, 1)]


# %% [markdown]
# A sheet of images, and the labels below them.


# %%
def sheet(rows):
    """One picture of (rows, columns, height, width, channels)."""
    pixels = (np.clip(rows, 0, 1) * 255).round().astype("uint8")
    count, columns, height, width, channels = pixels.shape
    return pixels.transpose(0, 2, 1, 3, 4).reshape(count * height, columns * width, channels)


def shares(label, names):
    """[(class, percent)] of a soft label, the largest first."""
    found = [(name, round(100 * float(share))) for name, share in zip(names, label, strict=True) if share > 0.004]
    return sorted(found, key=lambda pair: -pair[1])


def draw(experiment, kind, out):
    """Writes the sheet of one layer and data set; gives what the page needs to show it."""
    data = photos() if kind == "photos" else digits()
    values, code = experiment.values, experiment.code
    if kind == "digits":
        values = values if experiment.digits is None else experiment.digits
        code = experiment.digits_code or code
    codes = [code.format(value) for value in values]
    found = [drawn(one, data, PHOTOS if kind == "photos" else DIGITS) for one in codes]
    pixels = sheet(np.stack([images for images, _ in found]))
    path = out / f"{experiment.name}_{kind}.{'webp' if kind == 'photos' else 'png'}"
    if kind == "photos":
        Image.fromarray(pixels).save(path, quality=70, method=6)
    else:
        Image.fromarray(pixels[..., 0]).save(path, optimize=True)
    labels = [[shares(label, data[2]) for label in row] for _, row in found]
    return {"file": path.name, "values": values, "codes": codes, "labels": labels}


def main(out=OUT, smoke=False):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    found = []
    for one in EXPERIMENTS[:1] if smoke else EXPERIMENTS:
        kinds = ["photos", *(["digits"] if one.digits != () else [])]
        data = {kind: draw(one, kind, out) for kind in kinds}
        found.append({"layer": one.layer, "argument": one.argument, "about": one.about, "data": data})
    text = json.dumps(found, separators=(",", ":"))
    (out / "pictures.js").write_text(f"window.explorerPictures = {text}\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(found)} sliders, {size / 1e6:.2f} MB")


# %%
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=OUT)
    parser.add_argument("--smoke", action="store_true", help="the first slider only")
    given = parser.parse_args()
    main(given.out, given.smoke)
