"""The code of the documentation, and the names that stand in it without being made there, as small as they can be."""

import re
import textwrap

import keras
import numpy as np

import keras_reg

CLASSES = 10
EPOCHS = 2  # `fit` in the documentation trains no longer than this
EAGER = keras.backend.backend() == "tensorflow"  # which takes seconds to compile a step that runs twice
BLOCK = re.compile(
    r"(?P<why><!-- not run: [^>]+ -->\n+)?(<!-- on (?P<on>[\w, ]+) -->\n+)?"
    r"(<!-- from Keras (?P<since>[\d.]+) -->\n+)?"
    r"^(?P<indent> *)```python\n(?P<code>.*?)^ *```$",
    re.M | re.S,
)


def blocks(text):
    """(line, code) of each block of a page that is to run on this backend and with this version of Keras."""
    here = keras.backend.backend()
    return [
        (text[: block.start("code")].count("\n"), textwrap.dedent(block["code"]))
        for block in BLOCK.finditer(text)
        if not block["why"]
        and here in (block["on"] or here)
        and _numbers(block["since"] or "3") <= _numbers(keras.__version__)
    ]


def _numbers(version):
    """Major and minor number of a version."""
    return [int(number) for number in version.split(".")[:2]]


def run(found, page):
    """Runs the `blocks` of a page in order, in one namespace."""
    namespace = names("\n".join(code for _, code in found))
    for line, code in found:
        exec(compile("\n" * line + code, page, "exec"), namespace)


def small_network(classes=CLASSES, name=None):
    """Images to logits, with all that is spoken of: a convolution, a normalization, a head."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 3, strides=4)(images)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    if classes:
        x = keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, x, name=name)


def names(text):
    """What a page whose text is `text` begins with."""
    rng = np.random.default_rng(0)
    x, y = rng.random((16, 32, 32, 3), "float32"), (np.arange(16) % CLASSES).astype("int32")
    model = small_network()
    if "model.fit(x, y" in text:  # one that is compiled already
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    found = {
        "__name__": "documentation", "keras": keras, "keras_reg": keras_reg, "np": np, "num_classes": CLASSES,
        "x": x, "y": y, "x_train": x, "y_train": y, "x_val": x[:8], "y_val": y[:8], "images": x, "labels": y,
        "network": small_network(), "model": model, "layer": keras_reg.layers.CutMix(num_classes=CLASSES),
    }  # fmt: skip
    if "tf." in text or "dataset." in text:
        import tensorflow as tf

        soft = np.eye(CLASSES, dtype="float32")[y]
        found |= {"tf": tf, "dataset": tf.data.Dataset.from_tensor_slices((x, soft)).batch(8)}
    return found


def shorten(monkeypatch):
    """Trainings end after `EPOCHS`, and no weights are fetched from elsewhere."""
    fit, compile_model = keras.Model.fit, keras.Model.compile

    def quick_compile(self, *args, run_eagerly=EAGER, **kwargs):
        return compile_model(self, *args, run_eagerly=run_eagerly, **kwargs)

    def short_fit(self, *args, epochs=1, initial_epoch=0, **kwargs):
        cycles = [
            getattr(callback, "cycles", 0) for callback in kwargs.get("callbacks") or ()
        ]  # of a `SnapshotEnsemble`
        most = initial_epoch + max([EPOCHS, *cycles])
        return fit(self, *args, epochs=min(epochs, most), initial_epoch=initial_epoch, **kwargs)

    monkeypatch.setattr(keras.Model, "compile", quick_compile)
    monkeypatch.setattr(keras.Model, "fit", short_fit)
    monkeypatch.setattr(keras.applications, "MobileNetV2", lambda **_: small_network(None, "mobilenetv2_1.00_32"))
