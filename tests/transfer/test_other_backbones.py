"""Backbones of KerasHub and KerasCV, built from a config; where they are installed."""

import warnings

import numpy as np
import pytest
from harness import assert_close, to_numpy

from keras_reg.transfer import Phase, TransferLearner


def imported(name):
    """These packages warn while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)  # KerasHub asks for a recent Keras


def of_keras_hub():
    return imported("keras_hub").models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )


def of_keras_cv():
    return imported("keras_cv").models.CSPDarkNetBackbone(
        stackwise_channels=[8, 16], stackwise_depth=[1, 1], include_rescaling=True, input_shape=(32, 32, 3)
    )


@pytest.mark.parametrize("make", [of_keras_hub, of_keras_cv])
def test_warm_up_moves_the_head_alone_and_fine_tuning_the_backbone_too(make):
    backbone = make()
    x = np.random.default_rng(0).random((8, 32, 32, 3)).astype("float32") * 255
    y = np.arange(8) % 2
    before = [to_numpy(v).copy() for v in backbone.weights]
    learner = TransferLearner(backbone, 2)
    learner.fit((x, y), phases=[Phase("warm up", 1)], batch_size=4, verbose=0)
    for variable, value in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    learner.fit((x, y), phases=[Phase("all", 1, unfreeze="all")], batch_size=4, verbose=0)
    moved = {v.path: not np.array_equal(to_numpy(v), value) for v, value in zip(backbone.weights, before, strict=True)}
    assert any(moved.values())
    assert not any(change for path, change in moved.items() if "moving" in path)  # batch norm in inference mode
    assert_close(learner.model(x[:2], training=False), learner.model.predict(x[:2], verbose=0), rtol=1e-4, atol=1e-4)
