"""What docs/coming_from.md says about this package: its code can be called, and behaves as the page says.

What the method's own tests hold (label weights, boxes inside the image, inference) is not repeated here.
"""

import ast
import functools
import inspect
import re
import types

import keras
import numpy as np
import pytest
from cases import small_network
from harness import ROOT, only, to_numpy

import keras_reg
from keras_reg import callbacks, inference, layers, losses, surgery, training, transfer

PAGE = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
NAMESPACES = (callbacks, inference, layers, losses, surgery, training, transfer)
PUBLIC = {name: getattr(namespace, name) for namespace in NAMESPACES for name in namespace.__all__}
PARAMETERS = {name for made in PUBLIC.values() for name in inspect.signature(made).parameters}


def sections():
    """The code in the column of this package, by the name of the other library."""
    found = {}
    for part in PAGE.split("\n## ")[1:]:
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")][2:]
        assert all(len(row) >= 2 for row in rows)
        found[part.splitlines()[0]] = [code for row in rows for code in re.findall(r"`([^`]+)`", row[1])]
    return found


class WithoutEllipses(ast.NodeTransformer):
    """`f(x, y=..., z=[...])` as `f(x, z=[])`."""

    def visit_Call(self, node):
        self.generic_visit(node)
        node.args = [value for value in node.args if not is_ellipsis(value)]
        node.keywords = [keyword for keyword in node.keywords if not is_ellipsis(keyword.value)]
        return node

    def visit_List(self, node):
        self.generic_visit(node)
        node.elts = [value for value in node.elts if not is_ellipsis(value)]
        return node


def is_ellipsis(node):
    return isinstance(node, ast.Constant) and node.value is ...


def names(folder):
    """A value for everything that stands for one on the page."""
    given = {"min": 0.3, "max": 3.3, "min_area": 0.02, "max_area": 0.3, "min_aspect": 0.3, "max_aspect": 3.3}
    given |= {"min_count": 1, "max_count": 2, "min_scale": 0.3, "sl": 0.0, "sh": 0.3, "scale": (0.1, 0.3)}
    given |= {
        "ratio": (0.5, 2.0),
        "size": 8,
        "padding": 2,
        "rho": 0.05,
        "epsilon": 0.3,
        "fill_mode": "reflect",
        "value": 0.5,
        "block_size": 3,
        "kernel_size": 5,
    }
    given |= {"a": 0.2, "b": 1.0, "h": 0.5, "w": 0.5, "r": 0.7, "c": 1.0, "n": 2, "time_mask_param": 40, "time": 100}
    given |= {"cycles": 3}
    given |= {"epochs": 2, "freeze_epochs": 1, "units": 2, "depth": 4, "monitor": "val_loss"}
    given |= dict.fromkeys(["s", "p", "rate", "survival_probability", "factor", "gamma"], 0.5)
    given |= dict.fromkeys(["alpha", "beta", "label_smoothing", "eps", "stddev"], 0.3)
    given |= {"folder": folder / "backup", "log_dir": folder / "logs", "model": small_network()}
    given |= {"x": np.ones((2, 3)), "y": np.ones((2, 3)), "optimizer": keras.optimizers.AdamW()}
    given |= {"layer": layers.RandomErasing(), "layers": [layers.MixUp(), layers.CutMix()]}
    given |= {"probabilities": [0.3, 0.7], "rotation": 15, "translation": 0.1, "zoom": 0.2, "shear": 0.1}
    given |= dict.fromkeys(["brightness", "contrast", "saturation", "hue", "sharpness", "sigma"], 0.2)
    given |= {
        "num_ops": 2,
        "magnitude": 9,
        "num_magnitude_bins": 31,
        "severity": 3,
        "policy": "svhn",
        "width": 3,
        "num_chains": 3,
        "chain_depth": 2,
        "value_range": (0, 1),
        "fill": 0,
    }
    given |= {space.__name__.split(".")[1]: space for space in NAMESPACES if space is not layers}
    given |= {"keras": keras, "keras_reg": keras_reg, "Add": keras.layers.Add, "Dense": keras.layers.Dense}
    fit = functools.partial(inspect.signature(transfer.TransferLearner.fit).bind, None)
    return given | PUBLIC | {"Phase": transfer.Phase, "TransferLearner": types.SimpleNamespace(fit=fit)}


@pytest.mark.once
@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="`layer_decay` needs it")
@pytest.mark.parametrize("library", sections())
def test_the_code_of_each_row_can_be_called(library, tmp_path):
    """Whole calls are made, with some value for each name. Lone arguments are arguments of a public class."""
    given = names(tmp_path)
    for code in sections()[library]:
        if argument := re.match(r"(\w+)=", code):
            assert argument[1] in PARAMETERS | set(inspect.signature(keras.optimizers.Adam).parameters), code
        elif re.fullmatch(r"\w+", code):
            assert code in PUBLIC or code in PARAMETERS, code
        else:
            tree = ast.fix_missing_locations(WithoutEllipses().visit(ast.parse(code, mode="eval")))
            eval(compile(tree, code, "eval"), given)


@pytest.mark.once
@pytest.mark.parametrize("library", sections())
def test_arguments_by_position_have_their_own_name(library):
    """`RandomErasing(rate, scale, ratio)` is the order of the arguments, so a swapped pair would be seen."""
    for code in sections()[library]:
        if re.match(r"\w+=", code):
            continue
        for call in ast.walk(ast.parse(code, mode="eval")):
            made = PUBLIC.get(getattr(call.func, "id", None)) if isinstance(call, ast.Call) else None
            parameters = list(inspect.signature(made).parameters) if made else []
            for parameter, value in zip(parameters, getattr(call, "args", []), strict=False):
                if isinstance(value, ast.Name) and value.id in parameters:
                    assert value.id == parameter, code


# Defaults and differences, as the page states them.


def defaults(function, *which):
    return tuple(inspect.signature(function).parameters[name].default for name in which)


@pytest.mark.once
def test_defaults():
    assert defaults(layers.MixUp, "alpha") == (0.2,) and defaults(layers.CutMix, "alpha") == (1.0,)
    assert defaults(layers.RandomErasing, "rate", "scale", "ratio", "fill") == (0.5, (0.02, 0.33), (0.3, 3.3), 0.0)
    assert defaults(layers.RandomResizedCrop, "scale", "ratio") == ((0.08, 1.0), (3 / 4, 4 / 3))
    assert defaults(layers.RandomFlip, "mode", "rate") == ("horizontal", 0.5)
    assert defaults(layers.RandomGrayscale, "rate") == (0.1,)
    assert defaults(layers.RandomGaussianBlur, "sigma", "rate") == ((0.1, 2.0), 0.5)
    assert defaults(layers.GhostBatchNormalization, "virtual_batch_size") == (32,)
    assert defaults(callbacks.SmoothedEarlyStopping, "patience", "restore_best_weights") == (5, True)
    assert layers.drop_path_rates(0.2, 4)[0] == 0


@pytest.mark.once
def test_mixers_drop_path_and_choice_have_a_mode():
    """That of `RandomFlip` says which axes it mirrors."""
    found = {name for name in layers.__all__ if "mode" in inspect.signature(getattr(layers, name)).parameters}
    assert found == {"MixUp", "CutMix", "DropPath", "RandomChoice", "RandomFlip"}


def erased_by(layer, count=64):
    """For each image, the values that fill its boxes: a set."""
    images = to_numpy(layer(np.zeros((count, 8, 8, 1), "float32")))
    return [set(image[image != 0].tolist()) for image in images]


@pytest.mark.once
def test_apply_decides_for_a_whole_chain_and_per_image():
    corners = [layers.RandomErasing(1, scale=(0.1, 0.1), fill=fill) for fill in (1.0, 2.0)]
    found = erased_by(layers.RandomApply(layers.Pipeline(corners), 0.5, seed=0))
    assert 16 < found.count(set()) < 48
    assert sum(values == {1.0, 2.0} for values in found) > 10  # the others are covered by the second box


@pytest.mark.once
def test_choice_within_apply_is_one_per_batch():
    erasing = [layers.RandomErasing(1, fill=fill) for fill in (1.0, 2.0)]
    layer = layers.RandomApply(layers.RandomChoice(erasing), 0.5, seed=0)
    chosen = [erased_by(layer) for _ in range(8)]
    assert all(len(set.union(*found)) == 1 and 16 < found.count(set()) < 48 for found in chosen)
    assert set.union(*map(set.union, *chosen)) == {1.0, 2.0}


@pytest.mark.once
@pytest.mark.parametrize("fill", ["pixel_noise", "channel_noise"])
def test_noise_is_uniform_in_a_range_and_normal_without(fill):
    options = {"rate": 1, "scale": (1, 1), "ratio": (1, 1), "fill": fill, "seed": 0}
    uniform = to_numpy(layers.RandomErasing(**options, value_range=(0, 255))(np.zeros((256, 8, 8, 3), "uint8")))
    assert uniform.min() < 8 and uniform.max() > 247 and abs(uniform.mean() - 127.5) < 8
    normal = to_numpy(layers.RandomErasing(**options)(np.zeros((256, 8, 8, 3), "float32")))
    assert normal.min() < -2 and abs(normal.std() - 1) < 0.15


@pytest.mark.once
def test_time_masking():
    layer = layers.RandomErasing(1, scale=(0, 10 / 40), kind="signal", seed=0)
    erased = to_numpy(layer(np.ones((200, 40, 3), "float32"))) == 0
    assert (erased == erased[:, :, :1]).all()  # all bands of a step
    lengths = erased[:, :, 0].sum(1)
    assert lengths.min() == 1 and lengths.max() == 10
    assert (np.abs(np.diff(erased[:, :, 0].astype(int), axis=1)).sum(1) <= 2).all()  # one interval


@pytest.mark.once
def test_a_pair_of_paddings_is_vertical_and_horizontal():
    rows = np.broadcast_to(np.arange(8.0).reshape(1, 8, 1, 1), (16, 8, 8, 1))
    moved = [to_numpy(layers.RandomPadCrop(pair, fill_mode="reflect", seed=0)(rows)) for pair in ((0, 2), (2, 0))]
    np.testing.assert_array_equal(moved[0], rows)
    assert (moved[1] != rows).any()


@pytest.mark.skipif(not hasattr(keras.layers, "RandomHue"), reason="since a later Keras")
def test_half_of_the_factor_of_a_hue():
    red = np.zeros((4, 1, 1, 3), "float32")
    red[..., 0] = 1
    found = to_numpy(keras.layers.RandomHue((0.1, 0.1), value_range=(0, 1), seed=0)(red, training=True))
    both = [to_numpy(layers.ColorJitter(hue=(h, h), value_range=(0, 1))(red)) for h in (0.05, -0.05)]
    assert np.minimum(*(abs(found - one).max(axis=(1, 2, 3)) for one in both)).max() < 1e-6  # Keras draws the sign


@only("tensorflow", "torch", why="JAX compiles each operation of these layers, for 20 s.")
@pytest.mark.filterwarnings("ignore:.*Tensor.T is deprecated")  # in Keras' RandAugment on PyTorch
@pytest.mark.parametrize("name", ["RandAugment", "AugMix"])
def test_policies_of_keras_work_in_a_pipeline(name):
    images, labels = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32"), np.arange(4)
    policy = getattr(keras.layers, name)(value_range=(0, 255))
    policy = layers.Pipeline([policy, layers.MixUp(rate=0.0, num_classes=4)])
    found = to_numpy(policy((images, labels)))
    assert found[0].shape == images.shape and (found[0] != images).any()
    np.testing.assert_array_equal(found[1], np.eye(4))


@pytest.mark.once
def test_as_many_epochs_without_improvement_as_patience_are_enough():
    """Composer's `patience=1` stops at the second of them, which is `patience=2`."""
    stop = callbacks.SmoothedEarlyStopping("val_loss", smoothing=None, patience=2, restore_best_weights=False)
    stop.set_model(keras.Sequential())
    stop.model.stop_training = False
    stop.on_train_begin()
    stopped = []
    for epoch, loss in enumerate([1.0, 2.0, 2.0]):
        stop.on_epoch_end(epoch, {"val_loss": loss})
        stopped.append(stop.model.stop_training)
    assert stopped == [False, False, True]
