"""What people try first: `fit(x, y)`, one logit, one-hot labels, and the mistakes of the first day."""

import warnings

import keras
import numpy as np
import pytest
from harness import raises_received, slow_on, to_numpy
from keras import layers
from transfer.networks import flat_backbone, images

import keras_reg
from keras_reg.transfer import Phase, TransferLearner, suggest_phases

X, Y = images(12)
PHASES = [Phase("warm up", 1), Phase("all", 1, unfreeze="all")]


def learner(head=3, backbone=None, **arguments):
    backbone = flat_backbone() if backbone is None else backbone
    return TransferLearner(backbone, head, layers.Rescaling(1 / 255), **{"run_eagerly": True, **arguments})


def fit(made, *data, **arguments):
    return made.fit(*data, **{"phases": PHASES, "verbose": 0, **arguments})


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


# Forms of data.


@slow_on("tensorflow", "jax")
def test_all_forms_of_arrays_give_the_same():
    weights = np.linspace(0, 1, 12)
    start = learner().model.get_weights()
    results = []
    for data, more in (
        (((X, Y, weights),), {}),
        ((X, Y, weights), {}),
        ((), {"x": X, "y": Y, "sample_weight": weights}),
        ((list(X), Y.tolist(), weights), {}),
        ((X, Y[:, None], weights), {}),
        ((X, np.float64(Y), weights), {}),
        ((X, list(Y), weights), {}),
        (((X, [Y], weights),), {}),
        (((X, [np.eye(3)[Y]], weights),), {}),
    ):
        made = learner()
        made.model.set_weights(start)
        history = fit(made, *data, **more, batch_size=4, seed=1)
        results.append([history.history["loss"], history.history["accuracy"]])
    np.testing.assert_allclose(results, [results[0]] * len(results), rtol=1e-6)


def test_one_input_of_numbers_in_a_list():
    x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 2
    made = TransferLearner(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), 2, run_eagerly=True)
    start, losses = made.model.get_weights(), []
    for given, labels in ((x, y), ([x], y), ([x], y.tolist())):
        made.model.set_weights(start)
        losses.append(made.fit(given, labels, phases=PHASES[:1], verbose=0, seed=0).history["loss"])
    assert losses[0] == losses[1] == losses[2]
    made.fit([x], np.eye(2)[y].tolist(), phases=PHASES[:1], verbose=0)


def test_validation_split_takes_the_last_examples():
    start = learner().model.get_weights()
    results = []
    for arguments in ({"validation_split": 0.3}, {"validation_data": (X[8:], Y[8:])}):
        made = learner()
        made.model.set_weights(start)
        data = (X, Y) if "validation_split" in arguments else (X[:8], Y[:8])
        results.append(fit(made, *data, **arguments, seed=1).history)
    assert results[0].keys() == results[1].keys() >= {"val_loss"}
    for name, values in results[0].items():
        assert values == pytest.approx(results[1][name], rel=1e-6), name


def test_predict_and_evaluate():
    made = learner(run_eagerly=False)
    logits = to_numpy(made.model(np.float32(X), training=False))
    np.testing.assert_allclose(made.predict(X, batch_size=5, verbose=0), logits, rtol=1e-4, atol=1e-4)
    loss = -np.log(softmax(logits)[np.arange(12), Y]).mean()
    accuracy = (logits.argmax(-1) == Y).mean()
    for data in ((X, Y), ((X, Y),)):
        assert made.evaluate(*data, verbose=0) == pytest.approx([loss, accuracy], rel=1e-4)


def test_class_weight_is_refused_before_training():
    weights, loss = {0: 1.0, 1: 2.0, 2: 0.5}, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    inputs = keras.Input((6,))
    head = keras.Model(inputs, [layers.Dense(3, name="a")(inputs), layers.Dense(3, name="b")(inputs)])
    maps = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 1)])
    batches = [(X[:4], Y[:4])] * 2
    for made, data, given, mentioned in (
        (learner(), (X, Y), {3: 1.0}, "from 0 to 2"),
        (learner(1), (X, Y % 2), {2: 1.0}, "from 0 to 1"),
        (learner(), (X, Y, np.ones(12)), weights, "sample_weight"),
        (learner(), (X, [Y]), weights, "one array"),
        (learner(), iter(batches), weights, "PyDataset"),
        (learner(), Repeatable(batches), weights, "PyDataset"),
        (learner(head, loss=[loss, loss]), (X, [Y, Y]), weights, "one output"),
        (learner(layers.Conv2D(3, 1), maps, loss=loss), (X, np.zeros((12, 8, 8), int)), weights, "one class per"),
    ):
        before = made.model.get_weights()
        with raises_received("class_weight", mentioned):
            fit(made, data, class_weight=given, steps_per_epoch=1)
        for one, other in zip(before, made.model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


class Repeatable:
    """A dataset of a kind that Keras does not know, as a `DataLoader` is one that takes no class weights."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_evaluate_chooses_the_loss_by_the_labels():
    made = learner()
    fit(made, X, Y)
    expected = made.evaluate(X, Y, verbose=0)
    for labels in (np.eye(3)[Y], [np.eye(3)[Y]], Y[:, None], list(Y)):
        assert made.evaluate(X, labels, verbose=0) == pytest.approx(expected, rel=1e-5)
    # If the user compiles the model with another loss, that one counts.
    made.model.compile("sgd", "mse", metrics=["mse"])
    targets = np.full((12, 3), 2.0)
    error = np.square(made.predict(X, verbose=0) - targets).mean()
    assert made.evaluate(X, targets, verbose=0) == pytest.approx([error, error], rel=1e-4)


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    "data", [(X, Y + 3), (X, Y - 1), (X, np.eye(4)[Y]), (X, Y[:5]), (X, Y.astype(str)), (X, {"label": Y}), (X,), ()]
)
def test_evaluate_checks_labels_as_fit_does(data):
    made = learner(run_eagerly=False)
    for given in (data, (data,)):
        with raises_received():
            made.evaluate(*given, verbose=0)
    # An error inside Keras' `evaluate` would have left the model without its weights on JAX.
    assert np.isfinite(made.evaluate(X, Y, verbose=0)).all()


@pytest.mark.parametrize("key", ["label", "head"])
def test_labels_in_a_dict_for_one_output(key):
    for data in (((X, {key: Y}),), (X, {key: Y})):
        with raises_received("train", "one array", f"labels=['{key}']"):
            fit(learner(), *data)


def generator(count, bad=None):
    for i in range(count):
        yield X[:4], Y[:4] + (3 if i == bad else 0)


def test_generators():
    made = learner()
    history = fit(made, generator(100), steps_per_epoch=2)  # tf.data fetches some batches in advance
    assert len(history.history["loss"]) == 2
    with raises_received("train", "steps_per_epoch"):
        fit(made, generator(8))
    with raises_received("validation_data", "validation_steps"):
        fit(made, (X, Y), validation_data=generator(8))
    with raises_received("train", "labels=[3, 4, 5]"):
        fit(made, generator(8, bad=1), steps_per_epoch=2)
    with raises_received("train", "labels=[3, 4, 5]"):
        fit(made, generator(8, bad=0), steps_per_epoch=2)


@pytest.mark.parametrize("parts", [(Y[:3],), (Y[:4], np.ones(3))], ids=["labels", "weights"])
@pytest.mark.parametrize("wrong", [0, 1], ids=["first batch", "another batch"])
def test_batches_with_fewer_labels_or_weights_than_inputs(parts, wrong):
    batches = [(X[:4], Y[:4], np.ones(4))[: 1 + len(parts)]] * 2
    batches[wrong] = (X[:4], *parts)
    for data, steps in ((Repeatable(batches), None), (iter(batches), 2)):
        with raises_received("as many labels and weights as inputs", "inputs=4"):
            fit(learner(), data, steps_per_epoch=steps)


# Labels.


def test_one_hot_labels_with_the_default_loss():
    """The loss is that of NumPy, before a step has been made; validation and `evaluate` go with it."""
    made = learner()
    one_hot = np.eye(3)[Y]
    expected = -np.log(softmax(made.predict(X, verbose=0))[np.arange(12), Y]).mean()
    history = fit(made, X, one_hot, validation_data=(X, one_hot), phases=[Phase("warm up", 1)]).history
    assert history["loss"] == pytest.approx([expected], rel=1e-4)
    assert made.evaluate(X, one_hot, verbose=0)[0] == pytest.approx(history["val_loss"][0], rel=1e-4)
    assert isinstance(made.loss, keras.losses.CategoricalCrossentropy)
    with raises_received("validation_data", "shape"):
        fit(made, X, one_hot, validation_data=(X, Y))
    with raises_received("train", "sums"):
        fit(made, X, np.ones((12, 3)))
    with raises_received("train", "(12, 4)"):
        fit(made, X, np.eye(4)[Y])
    assert fit(made, X, Y).history["accuracy"]  # and back to class ids
    assert isinstance(made.loss, keras.losses.SparseCategoricalCrossentropy)


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -1, 3, 2**32, 2**32 + 1, 2**70, "cat", None, 1j, -0.25])
@pytest.mark.parametrize("where", ["train", "validation_data"])
def test_labels_that_are_no_class(value, where):
    made = learner()
    bad = [*Y[:-1].tolist(), value]
    data = {"train": (X, Y), "validation_data": (X, Y)} | {where: (X, bad)}
    with raises_received(where, "abels"):
        fit(made, **data)


@pytest.mark.parametrize("value", [2**63 + 1, 2**32 + 1, 2**32])
def test_unsigned_labels_do_not_wrap(value):
    bad = np.array([*Y[:-1], value], "uint64")
    with raises_received("train", str(value)):
        fit(learner(), X, bad)


@pytest.mark.parametrize("labels", [Y, 2.0 * (Y % 2) - 1, np.eye(2)[Y % 2], np.where(Y, 1.0, np.nan), ["a", "b"] * 6])
def test_labels_that_one_logit_does_not_take(labels):
    with raises_received("train"):
        fit(learner(1), X, labels)


@pytest.mark.parametrize("form", [np.int64, np.float32, np.bool_, lambda y: y[:, None]])
def test_one_logit_is_binary(form):
    made = learner(1)
    y = form(Y % 2)
    logits = made.predict(X, verbose=0)[:, 0]
    loss = np.mean(np.log1p(np.exp(logits)) - (Y % 2) * logits)
    accuracy = np.mean((logits > 0) == Y % 2)
    still = [Phase("warm up", 1, optimizer=keras.optimizers.SGD(0.0))]
    history = fit(made, X, y, phases=still).history
    assert history["loss"] == pytest.approx([loss], rel=1e-4) and history["accuracy"] == pytest.approx([accuracy])
    assert made.evaluate(X, y, verbose=0) == pytest.approx([loss, accuracy], rel=1e-4)
    assert fit(made, X, y, phases=still, class_weight={0: 0.0, 1: 0.0}).history["loss"] == [0.0]


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    "metrics",
    [
        ("accuracy",), {"head": ["accuracy"]}, ["acc"], "BinaryAccuracy", [keras.metrics.binary_accuracy],
        ["binary_accuracy"],
    ],
)  # fmt: skip
def test_names_and_functions_of_the_accuracy_of_one_logit(metrics):
    made = learner(1, metrics=metrics, weighted_metrics=["accuracy"])
    fit(made, X, Y % 2)
    expected = np.mean((made.predict(X, verbose=0)[:, 0] > 0) == Y % 2)
    found = made.evaluate(X, Y % 2, verbose=0, return_dict=True)
    accuracies = [value for name, value in found.items() if name != "loss"]
    assert accuracies and accuracies == pytest.approx([expected] * len(accuracies))


def test_a_model_of_one_logit_loads_with_its_metric(tmp_path):
    made = learner(1)
    fit(made, X, Y % 2)
    made.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(X, Y % 2, verbose=0) == pytest.approx(made.evaluate(X, Y % 2, verbose=0), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.eye(3)[Y]),
        (keras.losses.CategoricalCrossentropy(from_logits=True), Y),
        (keras.losses.CategoricalCrossentropy(from_logits=True), 2.0 * np.eye(3)[Y]),
        (keras.losses.BinaryCrossentropy(from_logits=True), np.eye(4)[Y]),
        (keras_reg.losses.LabelSmoothingCrossentropy(from_logits=True), np.eye(4)[Y]),
        ([keras.losses.SparseCategoricalCrossentropy(from_logits=True)], Y + 1),
    ],
)
def test_labels_of_another_form_than_the_loss_takes(loss, labels):
    with raises_received("train"):
        fit(learner(loss=loss), X, labels)


def test_several_classes_at_once():
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    made = learner(loss=loss)
    assert np.isfinite(fit(made, X, np.float32(np.arange(36).reshape(12, 3) % 2)).history["loss"]).all()


# Logits and probabilities.


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "CategoricalCrossentropy",
        keras.losses.binary_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalFocalCrossentropy(),
        keras_reg.losses.LabelSmoothingCrossentropy(),
    ],
)
def test_a_loss_of_probabilities_on_a_head_of_logits(loss):
    for head in (3, [layers.Dense(4, "relu"), layers.Dense(3)]):
        with raises_received("loss", "from_logits=True"):
            learner(head, loss=loss)


def test_a_loss_of_logits_on_a_head_of_probabilities():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for head in (layers.Dense(3, "softmax"), [layers.Dense(3), layers.Softmax()]):
        with pytest.warns(UserWarning, match="probabilities"):
            learner(head, loss=loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        learner(layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy")
        learner(layers.Dense(3), loss="mse")


# The backbone.


def with_top(*top):
    return keras.Sequential([keras.Input((8, 8, 3)), layers.GlobalAveragePooling2D(), *top], name="with_top")


@pytest.mark.parametrize(
    "top",
    [
        lambda: [layers.Dense(9, "softmax")],
        lambda: [layers.Dense(9), layers.Softmax()],
        lambda: [layers.Dense(9), layers.Activation("softmax")],
        lambda: [layers.Dense(9, name="predictions")],
        lambda: [keras.Sequential([keras.Input((3,)), layers.Dense(9, "softmax")])],
    ],
)
def test_a_backbone_with_its_old_head(top):
    with raises_received("backbone", "include_top=False", "(None, 9)"):
        learner(backbone=with_top(*top()))


def test_features_that_are_no_classes():
    for top in ([], [layers.Dense(9, "relu")], [layers.Dense(9, name="embedding")]):
        assert learner(backbone=with_top(*top)).model.output_shape == (None, 3)


@pytest.mark.parametrize("backbone", ["MobileNetV2", keras.applications.MobileNetV2, None, layers.Dense(3), 5])
def test_what_is_no_backbone(backbone):
    with raises_received("backbone"):
        TransferLearner(backbone, 3)


# Arguments.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head", True), ("head", 0), ("head", 2.5), ("head", "3"), ("head", None), ("head", 10**400 / 10**399),
        ("preprocess", True), ("preprocess", "vgg"), ("augmentation", "flip"), ("loss", "foo"), ("loss", 5),
        ("metrics", 3), ("run_eagerly", "no"), ("jit_compile", "yes"), ("steps_per_execution", 0),
        ("optimizer", "adam"),
    ],
)  # fmt: skip
def test_bad_arguments_of_the_learner(name, value):
    with raises_received():
        TransferLearner(flat_backbone(), **{"head": 3, name: value})


@slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 2.5), ("shuffle", "no"), ("shuffle", None), ("verbose", "loud"), ("callbacks", [1]),
        ("validation_split", 1.0), ("validation_split", "half"),
        ("validation_split", 0.99), ("class_weight", [1, 2]), ("class_weight", {"a": 1}), ("class_weight", {0: -1}),
        ("class_weight", {0: np.nan}), ("steps_per_epoch", 0), ("validation_steps", 1.5), ("validation_freq", "2"),
        ("validation_freq", [0]), ("validation_batch_size", 0), ("seed", 1.5), ("phases", 3),
        ("delete_checkpoint", "no"),
        ("y", None), ("train", "folder"), ("train", 5), ("train", X[:, :5]), ("train", X.astype(str)),
        ("train", None), ("sample_weight", np.ones(5)), ("y", ((X, Y))), ("y", Y[:5]),
    ],
)  # fmt: skip
def test_bad_arguments_of_fit(name, value):
    made = learner()
    before = made.model.get_weights()
    with raises_received():
        fit(made, **{"train": X, "y": Y, name: value})
    assert all(np.array_equal(a, b) for a, b in zip(before, made.model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", ""), ("name", 3), ("epochs", 0), ("epochs", 1.0), ("epochs", True), ("unfreeze", True),
        ("unfreeze", 0), ("unfreeze", [1]), ("optimizer", "nothing"), ("optimizer", keras.optimizers.Adam),
        ("layer_decay", 0), ("layer_decay", "0.5"), ("layer_decay", np.nan), ("cache_features", "no"),
        ("cache_features", 1), ("cache_features", ""), ("callbacks", [1]), ("callbacks", "stop"), ("batch_norm", "no"),
        ("batch_norm", 1), ("batch_norm", None), ("cache_features", b"folder"),
    ],
)  # fmt: skip
def test_bad_arguments_of_a_phase(name, value):
    arguments = {"name": "a", "epochs": 1, "unfreeze": "all"}
    arguments = arguments if name != "cache_features" else {"name": "a", "epochs": 1}
    with raises_received(name):
        Phase(**{**arguments, name: value})


def test_numpy_values_become_pythons():
    phase = Phase(np.str_("a"), np.int32(2), np.int64(3), batch_norm=np.True_, cache_features=np.False_)
    kept = [phase.name, phase.epochs, phase.unfreeze, phase.batch_norm, phase.cache_features]
    assert kept == ["a", 2, 3, True, False]
    assert [type(value) for value in kept] == [str, int, int, bool, bool]
    assert [phase.epochs for phase in suggest_phases(np.int64(5), np.str_("similar"))] == [10]
    if hasattr(keras.optimizers, "MultiOptimizer"):
        assert type(Phase("a", 1, "all", layer_decay=np.float32(0.5)).layer_decay) is float


def test_numpy_values_and_bare_objects_in_a_training(tmp_path):
    """Also where they are written to a backup and read again."""
    phase = Phase("a", np.int64(1), np.array(["block3_*"]), batch_norm=np.False_, callbacks=keras.callbacks.History())
    for _ in range(2):
        made = learner(np.int64(3), metrics="accuracy")
        history = made.fit(
            X, Y, phases=phase, backup_dir=tmp_path, batch_size=np.int32(6), seed=np.uint8(1), shuffle=np.True_,
            verbose=np.int64(0), callbacks=None, class_weight={np.int64(0): np.float32(1)},
        )  # fmt: skip
        assert len(history.history["accuracy"]) == 1
