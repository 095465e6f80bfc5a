"""A keyword by another name is refused by an error that says which to use, and nothing else is changed."""

import importlib
import inspect

import keras
import numpy as np
import pytest
from cases import small_network
from harness import raises_received

import keras_reg
from keras_reg import callbacks, inference, layers, losses, surgery, training, transfer


def learner(**arguments):
    return transfer.TransferLearner(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), **arguments)


CALLS = [
    ("eigenvalues", "stddevs", layers.PCAColorJitter),
    ("weights", "probabilities", lambda **k: layers.RandomChoice([layers.MixUp(), layers.CutMix()], **k)),
    ("fill_mode", "fill", layers.RandomErasing),
    ("fill_value", "fill", layers.RandomErasing),
    ("mask_fill_value", "mask_fill", layers.RandomErasing),
    ("mask_fill_value", "mask_fill", lambda **k: layers.RandomPadCrop(1, **k)),
    ("smoothing", "label_smoothing", losses.LabelSmoothingCrossentropy),
    ("smoothing", "label_smoothing", lambda **k: losses.label_smoothing_crossentropy([0], np.eye(2)[:1], **k)),
    ("directory", "backup_dir", lambda **k: callbacks.persist([], **k)),
    ("images", "augmented_input", lambda **k: training.RegularizedModel(small_network(), layers.MixUp(), **k)),
    ("head_or_num_classes", "head", learner),
    ("value", "fill", layers.RandomErasing),
    ("p", "rate", layers.RandomFlip),
    ("probability", "rate", lambda **k: layers.ColorJitter(0.1, **k)),
    ("degrees", "rotation", layers.RandomAffine),
    ("beta", "alpha", layers.MixUp),
    ("beta", "alpha", layers.CutMix),
    ("n", "num_ops", layers.RandAugment),
    ("sigma", "stddev", layers.RandomGaussianNoise),
    ("drop_prob", "rate", layers.DropPath),
    ("drop_prob", "rate", layers.DropBlock2D),
    ("eps", "epsilon", training.VirtualAdversarial),
    ("radius", "rho", training.SharpnessAware),
    ("epsilon", "label_smoothing", losses.LabelSmoothingCrossentropy),
    ("momentum", "decay", callbacks.WeightAverage),
    ("n", "samples", lambda **k: inference.MonteCarlo(small_network(), **k)),
    ("l2", "kernel_l2", lambda **k: surgery.regularize(small_network(), **k)),
    ("learning_rate", "optimizer", lambda **k: transfer.Phase("one", 1, **k)),
    ("delete_backup", "delete_checkpoint", lambda **k: learner(head=3).fit(**k)),
]


@pytest.mark.parametrize(("name", "instead", "call"), CALLS, ids=[f"{a}-{b}-{i}" for i, (a, b, _) in enumerate(CALLS)])
def test_a_keyword_by_another_name_is_refused_by_an_error_that_names_the_argument(name, instead, call):
    with raises_received(f"no argument `{name}`", f"Use `{instead}`", f"{name}=0.5"):
        call(**{name: 0.5})


def test_a_function_that_refuses_them_is_otherwise_as_written():
    function = losses.label_smoothing_crossentropy
    assert list(inspect.signature(function).parameters)[:3] == ["y_true", "y_pred", "label_smoothing"]
    assert inspect.getfullargspec(layers.RandomErasing.__init__).args[:2] == ["self", "rate"]
    assert function.__name__ == "label_smoothing_crossentropy" and "Args:" in function.__doc__
    with pytest.raises(TypeError, match="unknown"):
        function([0], np.eye(2)[:1], unknown=3)


def test_a_public_name_that_is_called_otherwise():
    with pytest.raises(AttributeError, match=r"`AugmentedModel`\. Use `RegularizedModel`"):
        keras_reg.training.AugmentedModel  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute `Augmented`\.$"):
        keras_reg.training.Augmented  # noqa: B018
    assert not hasattr(importlib.import_module("keras_reg.training"), "AugmentedModel")


def test_every_layer_ends_in_data_format_and_seed():
    found = {name: list(inspect.signature(getattr(layers, name)).parameters) for name in layers.__all__}
    found = {name: [p for p in parameters if p != "kwargs"] for name, parameters in found.items()}
    assert not {name for name, parameters in found.items() if "seed" in parameters and parameters[-1] != "seed"}
    assert not {name for name, p in found.items() if "data_format" in p and p[-2:] != ["data_format", "seed"]}
