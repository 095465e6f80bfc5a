"""The table of what works together on docs/training_step.md. The other rows are those of the matrix of all parts."""

import keras
import numpy as np
import pytest
from harness import BACKEND, ROOT, to_numpy

from keras_reg import callbacks, layers, training

PAGE = (ROOT / "docs" / "training_step.md").read_text(encoding="utf-8")


def noise():
    return layers.RandomGaussianNoise(0.5, rate=1.0)


PARTS = {
    "augmentation": lambda: {"augmentation": layers.MixUp(0.2)},
    "`mix_at`": lambda: {"augmentation": layers.MixUp(0.2), "mix_at": "hidden"},
    "SharpnessAware": lambda: {"sharpness": training.SharpnessAware(0.05)},
    "VirtualAdversarial": lambda: {"penalties": [training.VirtualAdversarial(0.5)]},
    "JensenShannonConsistency": lambda: {"penalties": [training.JensenShannonConsistency(noise())]},
    "ConsistentDropout": lambda: {"penalties": [training.ConsistentDropout(1.0)]},
    "ConfidencePenalty": lambda: {"penalties": [training.ConfidencePenalty(0.1)]},
}
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
IDS, CLASSES = np.arange(8, dtype="int32").reshape(4, 2), np.array([0, 1, 2, 0], "int32")
FLOATS = (IDS / 8).astype("float32")


def cells():
    """{(row, part): text} of the table."""
    lines = [
        line for line in PAGE.split("## Which parts and settings work together")[1].splitlines() if line.startswith("|")
    ]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in (lines[0], *lines[2:])]
    assert rows[0][-len(PARTS) :] == list(PARTS)
    return {(row[0], part): cell for row in rows[1:] for part, cell in zip(PARTS, row[1:], strict=True)}


def model_with(part, x, loss=CROSSENTROPY, dropout=0.5):
    """A small network with one part, compiled."""
    keras.utils.set_random_seed(1)
    first = [keras.layers.Embedding(8, 3), keras.layers.Flatten()] if x.dtype.kind == "i" else []
    hidden = [keras.layers.Dense(4, "tanh", name="hidden"), *([keras.layers.Dropout(dropout)] if dropout else [])]
    network = keras.Sequential([keras.Input(x.shape[1:], dtype=str(x.dtype)), *first, *hidden, keras.layers.Dense(3)])
    model = training.RegularizedModel(network, **PARTS[part]())
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=BACKEND != "jax")
    return model


def step(part, x, y, sample_weight=None, **arguments):
    """The logs of one step."""
    return model_with(part, x, **arguments).train_on_batch(x, y, sample_weight=sample_weight, return_dict=True)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        ("token ids", {"x": IDS, "y": CLASSES}),
        ("regression", {"x": FLOATS, "y": np.eye(3, dtype="float32")[CLASSES], "loss": "mse"}),
        ("a network without random layers", {"x": FLOATS, "y": CLASSES, "dropout": 0}),
    ],
)
def test_what_the_table_says_is_refused_is_refused_and_the_rest_trains(row, arguments, part):
    if cells()[row, part] in ("refused", "with a `divergence`", "not mixed"):
        with pytest.raises(ValueError, match="Received: "):
            step(part, **arguments)
    else:
        assert cells()[row, part].startswith("yes") and np.isfinite(step(part, **arguments)["loss"])


@pytest.mark.parametrize("part", PARTS)
def test_who_counts_examples_of_weight_0(part):
    loss = step(part, FLOATS, CLASSES, sample_weight=np.zeros(4))["loss"]
    assert (abs(loss) > 1e-6) == cells()["examples with a sample weight of 0", part].startswith("used")


@pytest.mark.parametrize("part", PARTS)
def test_gradient_histograms_see_what_the_optimizer_saw(part):
    model, watched = model_with(part, FLOATS), callbacks.GradientHistograms()
    before = [np.array(to_numpy(weight)) for weight in model.trainable_weights]
    model.fit(FLOATS, CLASSES, batch_size=4, verbose=0, callbacks=[watched])
    moved = [
        np.linalg.norm(to_numpy(new) - old) / 0.1 for old, new in zip(before, model.trainable_weights, strict=True)
    ]
    found = [one["norm"] for one in watched.history["gradients"][0]["variables"].values()]
    assert cells()["[GradientHistograms](gradients.md)", part].startswith("yes")
    np.testing.assert_allclose(found, moved, rtol=1e-3)


@pytest.mark.parametrize("part", PARTS)
def test_in_a_loop_the_loss_has_the_penalties(part):
    model = model_with(part, FLOATS)
    x, y, weights = model.augment(FLOATS, CLASSES)
    outputs = model(x, training=True)
    with_parts = float(to_numpy(model.compute_loss(x, y, outputs, weights)))
    cell = cells()["`compute_loss` in a [custom loop](#a-custom-loop)", part]
    assert cell.startswith("yes") and ("sharpened_gradients" in cell) == (part == "SharpnessAware")
    if "augment" in cell:
        assert type(y) is not np.ndarray and np.isfinite(with_parts)  # mixed labels
    else:
        plain = float(to_numpy(CROSSENTROPY(CLASSES, outputs)))
        assert (abs(with_parts - plain) > 1e-4) == (part != "SharpnessAware")
