"""A head with several outputs: names, losses, and labels that are checked for each output."""

import keras
import numpy as np
import pytest
from harness import assert_close, raises_received
from transfer.networks import flat_backbone, images

from keras_reg import layers
from keras_reg.transfer import Phase, TransferLearner

PIXELS, KINDS = images()
AGES = np.linspace(0, 1, 12, dtype="float32")[:, None]
WARM_UP = [Phase("warm up", 1)]


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def head(form, dtype=None):
    features = keras.Input((6,))
    kind = keras.layers.Dense(3, name="kind", dtype=dtype)(features)
    age = keras.layers.Dense(1, name="age", dtype=dtype)(features)
    return keras.Model(features, {"kind": kind, "age": age} if form is dict else [kind, age], name="top")


def learner(form, loss=None, **arguments):
    loss = loss or {"kind": crossentropy(), "age": "mse"}
    backbone = flat_backbone()
    return TransferLearner(backbone, head(form), keras.layers.Rescaling(1 / 255), loss=loss, **arguments)


def labels(form, kinds=KINDS):
    return {"kind": kinds, "age": AGES} if form is dict else [kinds, AGES]


@pytest.mark.parametrize("form", [dict, list])
def test_losses_metrics_and_logs_have_the_names_of_the_outputs(form):
    """The head alone, on features, and the whole model under an augmentation log the same names."""
    names = {"loss", "kind_loss", "age_loss", "kind_accuracy", "age_mae"}
    for augmentation in (None, layers.MixUp(0.5, seed=1)):
        made = learner(form, metrics={"kind": ["accuracy"], "age": ["mae"]}, augmentation=augmentation)
        data = {"validation_data": (PIXELS, labels(form)), "batch_size": 4, "verbose": 0}
        history = made.fit(PIXELS, labels(form), phases=WARM_UP, **data).history
        assert {name.removeprefix("val_") for name in history} == names
        found = made.evaluate(PIXELS, labels(form), verbose=0, return_dict=True)
        assert set(found) == names
        assert_close([history[f"val_{name}"][0] for name in names], [found[name] for name in names], rtol=1e-4)


def test_an_output_may_have_the_name_of_the_head():
    features = keras.Input((6,))
    made = keras.Model(
        features, {"top": keras.layers.Dense(3)(features), "age": keras.layers.Dense(1)(features)}, name="top"
    )
    learned = TransferLearner(flat_backbone(), made, loss={"top": crossentropy(), "age": "mse"})
    assert set(learned.predict(PIXELS, verbose=0)) == {"top", "age"}


def test_outputs_keep_their_dtype_under_mixed_precision_and_their_names_in_a_file(tmp_path):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = TransferLearner(flat_backbone(), head(list, "float32"), loss=[crossentropy(), "mse"])
    finally:
        keras.config.set_dtype_policy(policy)
    assert [output.dtype for output in made.model.outputs] == ["float32", "float32"]
    made.model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").output_names == ["kind", "age"]


WRONG = {
    "out of range": np.where(KINDS == 2, 3, KINDS),
    "not a number": np.array(["cat", "dog", "bird"])[KINDS],
    "one-hot": np.eye(3)[KINDS],
}


@pytest.mark.parametrize("kinds", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("form", [dict, list])
def test_wrong_labels_of_one_output(form, kinds):
    made = learner(form)
    with pytest.raises(ValueError, match=r"(?s)Labels of `train: kind`.*Received: "):
        made.fit(PIXELS, labels(form, kinds), phases=WARM_UP, verbose=0)
    with pytest.raises(ValueError, match=r"(?s)Labels of `validation_data: kind`.*Received: "):
        wrong = (PIXELS, labels(form, kinds))
        made.fit(PIXELS, labels(form), validation_data=wrong, phases=WARM_UP, verbose=0)
    assert not made.history


@pytest.mark.parametrize("cache", ["auto", False])
def test_a_wrong_label_in_the_last_batch_of_a_dataset(cache):
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            rows = slice(4 * index, 4 * index + 4)
            return PIXELS[rows], {"kind": np.array([*KINDS[:-1], 5])[rows], "age": AGES[rows]}

    with pytest.raises(ValueError, match=r"`train: kind`.*Received: labels=\[5\]"):
        learner(dict).fit(Data(), phases=[Phase("warm up", 2, cache_features=cache)], verbose=0)


def test_labels_that_do_not_fit_the_outputs():
    for wrong in ({"color": KINDS, "size": AGES}, KINDS, [KINDS]):
        with raises_received("labels="):
            learner(dict).fit((PIXELS, wrong), phases=WARM_UP, verbose=0)
    with pytest.raises(ValueError, match="`train: kind` must contain labels"):
        learner(dict).fit((PIXELS, {"age": AGES}), phases=WARM_UP, verbose=0)


@pytest.mark.parametrize("cache", ["auto", False])
def test_a_list_of_inputs(cache):
    inputs = [keras.Input((6,)), keras.Input((6,))]
    backbone = keras.Model(inputs, keras.layers.Add()(inputs), name="sum")
    made = TransferLearner(backbone, 3)
    x, weights = [np.ones((12, 6), "float32"), np.eye(6, dtype="float32")[KINDS]], np.ones(12)
    phases = [Phase("warm up", 2, cache_features=cache)]
    history = made.fit(x, KINDS, weights, phases=phases, validation_data=(x, KINDS), verbose=0).history
    assert_close(history["val_loss"][-1], made.evaluate(x, KINDS, verbose=0)[0], rtol=1e-5)


def test_an_output_without_a_loss_needs_no_labels():
    made = learner(dict, {"kind": crossentropy()})
    made.parts.head.get_layer("age").trainable = False  # Keras warns of weights without a gradient
    assert np.isfinite(made.fit((PIXELS, {"kind": KINDS}), phases=WARM_UP, verbose=0).history["loss"]).all()


def test_one_loss_for_every_output():
    made = learner(list, "binary_crossentropy")
    with pytest.raises(ValueError, match="`train: age`"):
        made.fit(PIXELS, [np.eye(3)[KINDS], 2 * AGES], phases=WARM_UP, verbose=0)
