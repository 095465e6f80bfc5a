import keras
import numpy as np
import pytest
from harness import BACKEND, assert_close, raises_received, to_numpy
from keras import layers, ops
from stochastic import training_calls

from keras_reg import Strength
from keras_reg.layers import DropPath, NoisyBatchNormalization
from keras_reg.surgery import regularize

EVERYTHING = {"kernel_l2": 1e-3, "bn_noise": 0.2, "dropout": 0.3, "drop_path": 0.2, "spatial_dropout": 0.1, "seed": 1}


def images(count=4, size=12):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype("float32")


def conv_block(x, filters, name, kernel=3, strides=1):
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", name=f"{name}_conv")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def residual_model(add=lambda a, b, name: layers.Add(name=name)([a, b])):
    """Identity and projected shortcuts in both orders, pooling, a head.

    The projection has 8 channels: with fewer, PyTorch 2.13 writes beyond its memory if it has one thread.
    """
    inputs = keras.Input((12, 12, 3), name="images")
    x = conv_block(inputs, 8, "stem")
    x = layers.MaxPooling2D(name="pool")(x)
    x = add(x, conv_block(x, 8, "first"), "add_first")
    shortcut = layers.BatchNormalization(name="shortcut_bn")(layers.Conv2D(6, 1, strides=2, name="shortcut")(x))
    branch = conv_block(conv_block(x, 5, "second_a"), 6, "second_b", strides=2)
    x = add(branch, shortcut, "add_second")
    x = add(conv_block(x, 6, "third"), x, "add_third")
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="head")(x), name="residual")


def trained(model, x):
    """The model with weights and moving statistics as a training leaves them."""
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(to_numpy(variable) + rng.uniform(0.01, 0.2, variable.shape).astype("float32"))
    return model


def layer_names(model):
    return [layer.name for layer in model.layers]


def of_type(model, cls):
    return {layer.name: layer for layer in model.layers if type(layer) is cls}


def test_everything_at_once_keeps_weights_names_and_inference_to_the_bit():
    x = images()
    model = trained(residual_model(), x)
    before = model.get_weights()
    copy = regularize(model, **EVERYTHING)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
    # The order follows the longest way to the output, which a drop path makes longer.
    assert set(layer_names(model)) < set(layer_names(copy))
    kept = [n for n in layer_names(regularize(model, **{**EVERYTHING, "drop_path": None})) if "dropout" not in n]
    assert kept == layer_names(model)
    for layer in model.layers:
        for a, b in zip(layer.get_weights(), copy.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert copy.name == model.name
    first, second = training_calls(copy, x, 2)
    assert np.abs(first - second).max() > 1e-4
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not of_type(model, NoisyBatchNormalization)
    assert layer_names(model) == layer_names(residual_model())


def test_nothing_asked_is_a_copy():
    x = images()
    model = trained(residual_model(), x)
    copy = regularize(model)
    assert layer_names(copy) == layer_names(model)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
    copy.layers[1].kernel.assign(0 * copy.layers[1].kernel)
    assert np.abs(to_numpy(model.layers[1].kernel)).max() > 0


def test_noise():
    model = regularize(residual_model(), bn_noise=0.2)
    noisy = of_type(model, NoisyBatchNormalization)
    assert len(noisy) == 6 and not of_type(model, layers.BatchNormalization)
    assert all(layer.stddev == 0.2 and layer.noise == "output" for layer in noisy.values())
    arguments = {"noise": "statistics", "virtual_batch_size": 8}
    model = regularize(residual_model(), bn_noise=arguments)
    assert all(layer.virtual_batch_size == 8 for layer in of_type(model, NoisyBatchNormalization).values())
    model = trained(residual_model(), images())
    copy = regularize(model, bn_noise=Strength(0.3))
    assert all(layer.stddev == Strength(0.3) for layer in of_type(copy, NoisyBatchNormalization).values())
    np.testing.assert_array_equal(to_numpy(copy(images())), to_numpy(model(images())))


def total_loss(model):
    return sum(float(to_numpy(keras.ops.stop_gradient(v))) for v in model.losses)


def losses_by_hand(model, l1, l2, endings=("kernel",)):
    values = [to_numpy(w) for w in model.trainable_weights if w.name.endswith(endings)]
    return sum(l1 * np.abs(v).sum() + l2 * np.square(v).sum() for v in values)


@pytest.mark.parametrize(("l1", "l2"), [(None, 1e-2), (1e-3, None), (1e-3, 1e-2)])
def test_penalties_are_on_kernels_alone(l1, l2):
    """The losses of the copy are the sum over kernels by NumPy; an own penalty is replaced."""
    inputs = keras.Input((6, 3))
    x = layers.SeparableConv1D(4, 2, bias_initializer="ones")(inputs)
    x = layers.LayerNormalization()(layers.LSTM(4, kernel_regularizer="l2", return_sequences=True)(x))
    x = layers.TimeDistributed(layers.Dense(3, bias_initializer="ones"))(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Bidirectional(layers.GRU(2))(x)))
    copy = regularize(model, kernel_l1=l1, kernel_l2=l2)
    expected = losses_by_hand(copy, l1 or 0, l2 or 0)
    assert expected > 0
    np.testing.assert_allclose(total_loss(copy), expected, rtol=1e-5)
    all_of_them = regularize(model, kernel_l1=l1, kernel_l2=l2, penalize_biases=True, penalize_normalization=True)
    expected = losses_by_hand(all_of_them, l1 or 0, l2 or 0, ("kernel", "bias", "gamma", "beta"))
    np.testing.assert_allclose(total_loss(all_of_them), expected, rtol=1e-5)


def test_penalties_and_noise_survive_saving(tmp_path):
    x = images()
    copy = regularize(trained(residual_model(), x), **EVERYTHING)
    copy.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    same_x = keras.tree.map_structure(lambda _: x, loaded.input)  # Keras 3.10 loads one input as a list of one
    np.testing.assert_array_equal(to_numpy(loaded(same_x)), to_numpy(copy(x)))
    assert total_loss(loaded) == pytest.approx(total_loss(copy), rel=1e-5)
    assert layer_names(loaded) == layer_names(copy)


def test_weight_files_pass_through(tmp_path):
    """A file of the plain model reaches the copy, and one of the copy a copy made anew."""
    x = images()
    source, target = trained(residual_model(), x), residual_model()
    source.save_weights(tmp_path / "plain.weights.h5")
    target.load_weights(tmp_path / "plain.weights.h5")
    copy = regularize(target, **EVERYTHING)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(source(x)))
    copy.save_weights(tmp_path / "copy.weights.h5")
    again = regularize(residual_model(), **EVERYTHING)
    again.load_weights(tmp_path / "copy.weights.h5")
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(source(x)))


def test_files_of_plain_models_load_where_no_layer_changes_its_class(tmp_path):
    """Keras finds the weights in a file by class and order: noise and drop paths need the way through the plain one."""
    source = trained(residual_model(), None)
    source.save_weights(tmp_path / "plain.weights.h5")
    copy = regularize(residual_model(), kernel_l2=1e-3, dropout=0.3, spatial_dropout=0.1)
    copy.load_weights(tmp_path / "plain.weights.h5")
    for a, b in zip(copy.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def plus(a, b, name):
    return a + b


@pytest.mark.parametrize("add", [lambda a, b, name: layers.Add(name=name)([a, b]), plus], ids=["layer", "operator"])
def test_drop_path_goes_on_the_branches_with_growing_rates(add, capsys):
    """At a rate near 1 the branches are gone: what is left is the network of the shortcuts alone."""
    model = residual_model(add)
    copy = regularize(model, drop_path=0.4, verbose=True)
    assert [layer.rate for layer in of_type(copy, DropPath).values()] == [0.0, 0.2, 0.4]
    assert capsys.readouterr().out.count("drop path") == 3
    x = images()
    trained(model, x)
    copy = regularize(model, drop_path=Strength(0.0))
    for layer in of_type(copy, DropPath).values():
        layer.weights[0].assign(0.999999)
    # Inputs of the head: only the projected shortcut and the stem before it.
    features = keras.Model(copy.input, copy.get_layer("gap").output)
    names = ["stem_conv", "stem_bn", "stem_relu", "pool", "shortcut", "shortcut_bn", "gap"]
    y = x
    for name in names:
        layer = model.get_layer(name)
        y = layer(y, training=True) if "bn" in name else layer(y)
    assert_close(features(x, training=True), y, rtol=1e-4, atol=1e-4)


def test_additions_that_are_not_residual_are_left_alone(capsys):
    inputs = keras.Input((8, 8, 3))
    a, b = layers.Conv2D(4, 3, name="a")(inputs), layers.Conv2D(4, 3, name="b")(inputs)
    x = layers.Add(name="of_two_convolutions")([a, b])
    top = layers.Conv2D(4, 3, padding="same", strides=2, name="down")(x)
    y = layers.Add(name="inner")([top, layers.Conv2D(4, 3, padding="same", name="c")(top)])
    y = layers.Add(name="pyramid")([layers.UpSampling2D(name="up")(y), layers.Conv2D(4, 1, name="lateral")(x)])
    y = layers.Add(name="three")([y, y, x])
    shared = layers.Add(name="shared")
    for name in ("e", "f"):
        y = shared([y, layers.Conv2D(4, 3, padding="same", name=name)(y)])
    dropped = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1), name="own")(layers.Conv2D(4, 1, name="d")(y))
    y = layers.Add(name="has_one")([y, dropped])
    copy = regularize(keras.Model(inputs, y), drop_path=0.2, verbose=True)
    assert list(of_type(copy, DropPath)) == ["inner_drop_path"]
    report = capsys.readouterr().out
    for name in ("of_two_convolutions", "pyramid", "three", "shared", "has_one"):
        assert f"{name}: no drop path" in report


def test_dropout_before_the_head():
    copy = regularize(residual_model(), dropout=0.3)
    names = layer_names(copy)
    assert names[names.index("head") - 1] == "head_dropout"
    assert copy.get_layer("head_dropout").rate == 0.3
    inputs = keras.Input((4,))
    x = layers.Dropout(0.1, name="own")(layers.Dense(8, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Softmax(name="softmax")(layers.Dense(3, name="logits")(x)))
    copy = regularize(model, dropout=0.3)
    assert layer_names(copy) == layer_names(model)
    assert copy.get_layer("own").rate == 0.3 and model.get_layer("own").rate == 0.1


def test_heads_of_several_outputs_and_no_head(capsys):
    inputs = keras.Input((4,))
    x = layers.Dense(8, name="hidden")(inputs)
    model = keras.Model(inputs, {"a": layers.Dense(1, name="a")(x), "b": layers.Dense(2, name="b")(x)})
    copy = regularize(model, dropout=0.3)
    assert set(of_type(copy, layers.Dropout)) == {"a_dropout", "b_dropout"}
    assert set(copy(np.ones((2, 4), "float32"))) == {"a", "b"}
    backbone = keras.Model(inputs, layers.BatchNormalization()(x))
    assert not of_type(regularize(backbone, dropout=0.3, verbose=True), layers.Dropout)
    assert "no head" in capsys.readouterr().out


def test_spatial_dropout_after_pooling():
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D(name="max")(inputs)
    x = layers.AveragePooling2D(2, name="average")(x)
    copy = regularize(keras.Model(inputs, layers.GlobalMaxPooling2D(name="all")(x)), spatial_dropout=0.2)
    assert layer_names(copy)[1:] == ["max", "max_spatial_dropout", "average", "average_spatial_dropout", "all"]
    copy = regularize(keras.Sequential([keras.Input((8, 3)), layers.MaxPooling1D(name="max")]), spatial_dropout=0.2)
    assert type(copy.layers[1]) is layers.SpatialDropout1D


def test_sequential_and_nested_models():
    x = images()
    stem = keras.Sequential(
        [layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="bn"), layers.MaxPooling2D(name="pool")],
        name="stem",
    )
    inner_inputs = keras.Input((5, 5, 4))
    y = layers.Add(name="add")([inner_inputs, conv_block(inner_inputs, 4, "inner")])
    inner = keras.Model(inner_inputs, y, name="inner_model")
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), stem, inner, layers.GlobalAveragePooling2D(), layers.Dense(3, name="head")],
        name="all",
    )
    trained(model, x)
    copy = regularize(model, **EVERYTHING)
    assert isinstance(copy, keras.Sequential) and isinstance(copy.get_layer("stem"), keras.Sequential)
    assert layer_names(copy.get_layer("stem")) == ["conv", "bn", "pool", "pool_spatial_dropout"]
    assert "add_drop_path" in layer_names(copy.get_layer("inner_model"))
    assert layer_names(copy)[-2:] == ["head_dropout", "head"]
    assert type(copy.get_layer("stem").get_layer("bn")) is NoisyBatchNormalization
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
    assert len(copy.losses) == 3
    assert [t.name for t in copy.inputs] == [t.name for t in regularize(copy).inputs]
    assert copy.get_config()["layers"][0]["config"]["name"] == model.get_config()["layers"][0]["config"]["name"]


def test_shared_layers_and_models_stay_shared():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    shared = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="dense"), layers.BatchNormalization()], name="tower"
    )
    single = layers.Dense(2, name="single")
    outputs = [single(shared(x)) for x in inputs]
    model = trained(keras.Model(inputs, outputs), None)
    copy = regularize(model, kernel_l2=0.1, bn_noise=0.1, dropout=0.5)
    assert len(copy.weights) == len(model.weights)
    kinds = [type(layer).__name__ for layer in copy.layers]
    assert kinds.count("Sequential") == kinds.count("Dropout") == 1  # the head's dropout is shared as the head is
    x = [np.ones((2, 4), "float32"), np.zeros((2, 4), "float32")]
    for a, b in zip(copy(x), model(x), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_one_seed_gives_every_layer_its_own_and_repeats():
    copy = regularize(residual_model(), **EVERYTHING)
    seeds = [layer.seed for layer in copy.layers if getattr(layer, "seed", None) is not None]
    assert len(set(seeds)) == len(seeds) == 6 + 3 + 1 + 1  # noise, drop paths, dropout, spatial dropout
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    first, second = (training_calls(regularize(model, bn_noise=0.3, dropout=0.5, seed=1), x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (training_calls(regularize(model, bn_noise=0.3, dropout=0.5, seed=2), x) != first).any()


@pytest.mark.filterwarnings("ignore:.*changes nothing")
def test_noise_in_wrappers_has_seeds_of_its_own():
    """Two equal layers draw other noise, and one seed repeats both."""
    inputs = keras.Input((5, 3))
    x = inputs
    for _ in range(2):
        x = layers.TimeDistributed(layers.BatchNormalization())(x)
    model = keras.Model(inputs, x)

    def seeds(model, seed):
        copy = regularize(model, bn_noise=0.3, seed=seed)
        return copy, [layer.layer.seed for layer in copy.layers[1:]]

    copy, found = seeds(model, 4)
    assert found == seeds(model, 4)[1] == [4, 5] and seeds(model, None)[1] == [None, None]
    assert seeds(copy, 8)[1] == [4, 5]  # which have noise already


def test_layers_in_wrappers():
    frames = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Flatten()]
    )
    inputs = keras.Input((2, 8, 8, 3))
    model = trained(keras.Model(inputs, layers.Dense(1)(layers.TimeDistributed(frames)(inputs))), None)
    x = np.random.default_rng(0).normal(size=(2, 2, 8, 8, 3)).astype("float32")
    for noise in (0.2, Strength(0.2)):
        copy = regularize(model, kernel_l2=0.1, bn_noise=noise)
        inner = copy.layers[1].layer.layers
        assert type(inner[1]) is NoisyBatchNormalization and inner[1].stddev == noise
        assert len(copy.losses) == 2
        np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))


@keras.saving.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """Makes its layers on its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.normalization = layers.Dense(3), layers.BatchNormalization()

    def build(self, shape):
        self.dense.build(shape), self.normalization.build((*shape[:-1], 3))

    def call(self, x):
        return self.normalization(self.dense(x))


def test_what_is_out_of_reach_is_said(capsys):
    model = trained(keras.Sequential([keras.Input((4,)), Block(name="block"), layers.Dense(2, name="head")]), None)
    x = np.ones((2, 4), "float32")
    copy = regularize(model, kernel_l1=0.1, bn_noise=0.1, verbose=True)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
    assert capsys.readouterr().out.splitlines() == [
        "block: 1 kernels not penalized, its config names no regularizer",
        "block: no noise, its config names no BatchNormalization",
        "head: kernel penalized",
    ]


def test_nested_models_have_drop_paths_and_names_of_their_own():
    """Two towers with the same names inside; rates grow from the input on, through the towers."""

    def tower(width):
        inputs = keras.Input((width,))
        x = layers.Dense(width, name="dense")(inputs)
        return keras.Model(inputs, layers.Add(name="add")([inputs, x]), name=f"tower_{width}")

    inputs = keras.Input((4,))
    x = layers.Dense(3, name="between")(tower(4)(inputs))
    x = layers.Add(name="outer")([x, layers.Dense(3, name="branch")(x)])
    copy = regularize(keras.Model(inputs, tower(3)(x)), drop_path=0.2, dropout=0.5)
    assert not of_type(copy, layers.Dropout)
    rates = [of_type(m, DropPath) for m in (copy.get_layer("tower_4"), copy, copy.get_layer("tower_3"))]
    assert [[layer.rate for layer in found.values()] for found in rates] == [[0.0], [0.1], [0.2]]


def test_what_follows_the_calls_of_a_nested_functional_model():
    """The model is called twice. Only the second call and the layer after it are a branch from the first call."""
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, layers.Dense(4, name="dense")(inner_inputs), name="inner")
    inputs = keras.Input((4,))
    first = inner(inputs)
    branch = layers.Dense(4, name="branch")(inner(first))
    outputs = [
        layers.Dense(2, name="head")(first),
        layers.Add(name="residual")([first, branch]),
        layers.Add(name="none")([inner(layers.Dense(4, name="before")(inputs)), branch]),
    ]
    model = keras.Model(inputs, outputs)
    copy = regularize(model, drop_path=0.2, dropout=0.5)
    assert list(of_type(copy, layers.Dropout)) == ["head_dropout"]
    assert list(of_type(copy, DropPath)) == ["residual_drop_path"]
    ones = np.ones((2, 4), "float32")
    for a, b in zip(copy(ones), model(ones), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_names_of_inputs_and_structures_are_kept():
    inputs = {"b": keras.Input((3,), name="b"), "a": keras.Input((2,), dtype="int32", name="a")}
    x = layers.Concatenate(name="both")([inputs["b"], layers.Rescaling(0.5, name="half")(inputs["a"])])
    model = keras.Model(inputs, [x, {"head": layers.Dense(1, name="head")(x)}], name="dicts")
    copy = regularize(model, kernel_l2=0.1)
    assert layer_names(copy) == layer_names(model)
    assert keras.tree.map_structure(lambda t: (t.shape, t.dtype), copy.input) == keras.tree.map_structure(
        lambda t: (t.shape, t.dtype), model.input
    )
    x = {"a": np.ones((2, 2), "int32"), "b": np.ones((2, 3), "float32")}
    for a, b in zip(keras.tree.flatten(copy(x)), keras.tree.flatten(model(x)), strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_state_beside_weights_and_frozen_layers():
    x = images()
    normalization = layers.Normalization()
    normalization.adapt(3 + 2 * x)
    model = keras.Sequential(
        [keras.Input((12, 12, 3)), normalization, layers.Conv2D(2, 3, name="conv"), layers.Flatten()]
    )
    model.get_layer("conv").trainable = False
    copy = regularize(model, kernel_l2=0.1)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
    assert not copy.get_layer("conv").trainable and not copy.losses
    backbone = residual_model()
    backbone.trainable = False
    model = keras.Sequential([backbone, layers.Dense(2)])
    model.build((None, 12, 12, 3))
    copy = regularize(model, **EVERYTHING)
    assert [w.path.split("/")[-1] for w in copy.trainable_weights] == ["kernel", "bias"] and len(copy.losses) == 1
    assert not copy.layers[0].trainable


def test_a_normalization_that_trains_in_a_frozen_model_uses_the_statistics_of_batches():
    inner_inputs = keras.Input((6,))
    x = layers.TimeDistributed(layers.Dense(6), name="steps")(layers.Reshape((1, 6))(inner_inputs))
    inner = keras.Model(inner_inputs, layers.BatchNormalization(name="bn")(layers.Flatten()(x)), name="inner")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    inner.trainable = False
    inner.get_layer("bn").trainable = True
    copy = regularize(model, kernel_l2=0.0)
    x = np.random.default_rng(0).normal(3, 2, (16, 6)).astype("float32")
    assert_close(copy(x, training=True), model(x, training=True), rtol=1e-5)
    assert [w.trainable for w in copy.weights] == [w.trainable for w in model.weights]
    steps = copy.get_layer("inner").get_layer("steps")
    assert not steps.trainable and not steps.layer.trainable


def test_dry_run_says_what_would_be_done_and_does_nothing(capsys):
    model = residual_model()
    assert regularize(model, **EVERYTHING, dry_run=True) is None
    lines = capsys.readouterr().out.splitlines()
    assert "stem_conv: kernel penalized" in lines
    assert "stem_bn: BatchNormalization -> NoisyBatchNormalization(stddev=0.2)" in lines
    assert "head: dropout 0.3 before it" in lines
    assert "pool: spatial dropout 0.1 after it" in lines
    assert "add_third: drop path 0.2 on its branch" in lines
    assert layer_names(model) == layer_names(residual_model())
    regularize(model, **EVERYTHING, verbose=True)
    assert capsys.readouterr().out.splitlines() == lines
    regularize(model, dry_run=True)
    assert capsys.readouterr().out == "Nothing to do.\n"


def test_a_copy_without_any_change_is_told():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Rescaling(2.0)])
    with pytest.warns(UserWarning, match="`regularize` changes nothing in .* drop path: no additions found"):
        regularize(model, bn_noise=0.1, spatial_dropout=0.3, drop_path=0.2)
    with pytest.warns(UserWarning, match="no layers that the arguments concern"):
        regularize(model, bn_noise=0.1)


def test_a_compiled_model_gives_a_copy_to_compile_and_train():
    model = residual_model()
    model.compile("sgd", lambda y_true, y_pred: keras.ops.mean(y_pred))
    copy = regularize(model, **EVERYTHING)
    copy.compile("sgd", "sparse_categorical_crossentropy", jit_compile=BACKEND == "jax")
    losses = copy.fit(images(8), np.arange(8) % 5, batch_size=4, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "bad",
    [
        {"kernel_l2": -1},
        {"kernel_l1": "a"},
        {"dropout": 1.1},
        {"drop_path": 1.5},
        {"spatial_dropout": -0.1},
        {"seed": -1},
    ],
)
def test_bad_arguments(bad):
    with raises_received(*bad):
        regularize(residual_model(), **bad)


def test_bad_models_and_noise():
    with raises_received("bn_noise"):
        regularize(residual_model(), bn_noise="much")
    with raises_received("bn_noise"):
        regularize(residual_model(), bn_noise=-0.1)
    for model in (Subclass(), keras.Sequential([layers.Dense(2)]), layers.Dense(2)):
        with raises_received("model"):
            regularize(model)


def test_verbose_says_nothing_without_interactive_logging(capsys):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    keras.config.disable_interactive_logging()
    try:
        regularize(model, kernel_l2=0.1, verbose=True)
        assert capsys.readouterr().out == ""
        regularize(model, kernel_l2=0.1, dry_run=True)
        assert capsys.readouterr().out  # which is all that it does
    finally:
        keras.config.enable_interactive_logging()


def test_a_layer_that_is_also_used_outside_of_its_wrapper_is_refused():
    """Its copy would be two layers, as that of `clone_model`."""
    dense, inputs = layers.Dense(4, name="dense"), [keras.Input((5, 4)), keras.Input((4,))]
    timed = layers.TimeDistributed(dense, name="timed")(inputs[0])
    model = keras.Model(inputs, layers.Add()([layers.GlobalAveragePooling1D()(timed), dense(inputs[1])]))
    with raises_received("must not use `dense` in `timed` and on its own", "layer='dense'"):
        regularize(model, kernel_l2=0.1)


@pytest.mark.filterwarnings("ignore:.*changes nothing")
def test_boundaries_and_vocabularies_that_were_found_in_data_are_kept():
    def kept(layer, data, dtype):
        layer.adapt(data)
        model = keras.Sequential([keras.Input((1,), dtype=dtype), layer])
        x = data[:4] if dtype == "string" else ops.convert_to_tensor(data[:4])
        np.testing.assert_array_equal(to_numpy(regularize(model, kernel_l2=0.1)(x)), to_numpy(model(x)))

    kept(layers.Discretization(num_bins=4), np.arange(100, dtype="float32")[:, None] % 7, "float32")
    if BACKEND == "tensorflow":  # the only one on which Keras' lookups work
        kept(layers.IntegerLookup(), np.array([[3], [5], [9], [3], [4]]), "int64")
        words = np.array([["a"], ["c"], ["a"], ["b"]])
        kept(layers.StringLookup(), words, "string")
        kept(layers.StringLookup(output_mode="tf_idf"), words, "string")
        kept(layers.TextVectorization(), words, "string")


def test_inserted_layers_compute_in_the_dtype_of_the_model(set_dtype_policy):
    model, x = residual_model(), images()
    before = to_numpy(model(x))
    set_dtype_policy("mixed_bfloat16")
    copy = regularize(model, dropout=0.3, drop_path=0.2, spatial_dropout=0.1)
    np.testing.assert_array_equal(to_numpy(copy(x)), before)


def test_a_penalty_of_0_removes_those_of_the_model(capsys):
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_regularizer="l2"), keras.layers.Dense(2)])
    copy = regularize(made, kernel_l2=0.0, verbose=True)
    assert not copy.losses and len(made.losses) == 1
    assert capsys.readouterr().out == f"{made.layers[0].name}: kernel no longer penalized\n"


def test_poolings_that_no_spatial_dropout_fits_are_told(capsys):
    pooling = keras.layers.MaxPooling1D(data_format="channels_first")
    made = keras.Sequential([keras.Input((3, 8)), pooling, keras.layers.Flatten(), keras.layers.Dense(2)])
    regularize(made, spatial_dropout=0.5, dry_run=True)
    assert "no spatial dropout" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="`regularize` changes nothing"):
        regularize(made, spatial_dropout=0.5)
