"""The methods of `effects.py`: for each one its setting, its baseline, and the strengths to choose from."""

import keras
from effects_pixels import PIXELS
from effects_recipes import Effect, Recipe, changed, grid, images, parts
from effects_settings import COLORS, DEEP, DENSE, FEW, LARGE, NORMALIZED, POOLED, SMALL
from effects_steps import STEPS

import keras_reg
from keras_reg import callbacks, layers, surgery


def pipeline(erasing):
    light = [layers.RandomErasing(0.25, scale=(0.02, 0.1))] if erasing else []
    return [layers.RandomPadCrop(1), *light, layers.CutMix(rate=0.5)]


def turned(rate, degrees=15):
    turn = keras.layers.RandomRotation(degrees / 360, fill_mode="constant", fill_value=0.0)
    return layers.RandomApply(turn, rate=rate)


def scheduled(schedule, **recipe):
    return Recipe(
        callbacks=lambda epochs: [callbacks.StrengthSchedule(lambda epoch: schedule(epoch / epochs))], **recipe
    )


def cut():
    return [layers.CutMix(rate=keras_reg.Strength(1.0))]


def blocks(rate=0.1):
    return {"dropped": lambda: layers.DropBlock2D(keras_reg.Strength(rate), block_size=3)}


def decayed(weight_decay, excluded):
    def optimizer(rate, network):
        made = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
        return surgery.exclude_from_weight_decay(made, network) if excluded else made

    return Recipe(optimizer=optimizer)


def falling(gamma):
    return Recipe(callbacks=lambda epochs: [callbacks.ExponentialLR(gamma)])


def averaged(kind, **arguments):
    return Recipe(callbacks=lambda epochs: [callbacks.WeightAverage(kind, swap="validation", **arguments)])


def watched():
    return Recipe(callbacks=lambda epochs: [callbacks.GradientHistograms()])


def resized(least):
    return layers.RandomResizedCrop((8, 8), scale=(least, 1))


def erased(most):
    return layers.RandomErasing(0.5, scale=(0.02, most))


def mixed(alpha):
    return layers.RandomChoice([layers.MixUp(alpha), layers.CutMix(1.0)], mode="sample")


def dropped_blocks(rate):
    return layers.DropBlock2D(rate, block_size=3)


def dropped_out(network, rate):
    return surgery.regularize(network, dropout=rate)


def penalized(network, l2):
    return surgery.regularize(network, kernel_l2=l2, dropout=0.3)


def pooling(text, values, **options):
    return grid(text, lambda ratio: Recipe({"ratio": ratio, **options}), values)


def dropped_weights(rate, layer):
    return layers.DropConnect(layer, rate)


def noisy_weights(stddev, layer):
    return layers.WeightNoise(layer, stddev)


def noisy(stddev, **more):
    return layers.NoisyBatchNormalization(stddev, **more)


def small_batches(size, **more):
    return layers.NoisyBatchNormalization(noise="statistics", virtual_batch_size=size, **more)


DECAYS = (1.0,)
ERASING = images("RandomErasing(0.5, scale=(0.02, {}))", erased, (0.05, 0.1, 0.2))
SHIFTS = images("RandomPadCrop({})", layers.RandomPadCrop, (1, 2))
CHOICE = "RandomChoice([MixUp({}), CutMix(1.0)], mode='sample')"
TURNS = images("RandomApply(RandomRotation(15 / 360), rate={})", turned, (0.25, 0.5, 0.9))
PIPELINES = {
    **images("Pipeline([RandomPadCrop(1), CutMix(rate=0.5)])", pipeline, (False,)),
    **images(
        "Pipeline([RandomPadCrop(1), RandomErasing(0.25, scale=(0.02, 0.1)), CutMix(rate=0.5)])", pipeline, (True,)
    ),
}
SMOOTHING = grid("LabelSmoothingCrossentropy({})", lambda smoothing: Recipe(smoothing=smoothing), (0.1, 0.2))
SURGERY = {
    **changed("regularize(network, dropout={})", dropped_out, (0.3, 0.5)),
    **changed("regularize(network, kernel_l2={}, dropout=0.3)", penalized, (1e-4, 1e-3)),
}
ENDING = {
    "StrengthSchedule, which switches CutMix off in the last fifth": scheduled(
        lambda done: float(done < 0.8), augmentation=cut
    )
}
BEGINNING = {
    "StrengthSchedule, which raises the rate from 0 in the first half": scheduled(
        lambda done: min(1.0, 2 * done), parts=blocks()
    )
}
JITTER = images("PCAColorJitter({})", layers.PCAColorJitter, (0.3, 1.0))
PATHS = grid("drop_path_rates({}, 12)", lambda rate: Recipe({"rate": rate}), (0.1, 0.3))
BLOCKS = parts("DropBlock2D({}, block_size=3)", "dropped", dropped_blocks, (0.05, 0.1, 0.2))
GHOSTS = parts("GhostBatchNormalization({})", "normalization", layers.GhostBatchNormalization, (16, 32))
STATISTICS = "NoisyBatchNormalization(noise='statistics', virtual_batch_size={})"
NOISES = {
    **parts("NoisyBatchNormalization({})", "normalization", noisy, (0.1, 0.3)),
    **parts(STATISTICS, "normalization", small_batches, (16, 32)),
}
POOLING = {
    **pooling("FractionalMaxPooling2D({})", (1.41, 1.25)),
    **pooling("FractionalMaxPooling2D({}, pseudo_random=False)", (1.41,), pseudo_random=False),
}
CONNECTIONS = parts("DropConnect(layer, {})", "wrap", dropped_weights, (0.1, 0.3))
WEIGHT_NOISE = parts("WeightNoise(layer, {})", "wrap", noisy_weights, (0.01, 0.03, 0.1))
AVERAGES = {
    **grid("WeightAverage(decay={})", lambda decay: averaged("ema", decay=decay), (0.99, 0.995, 0.999)),
    **grid("WeightAverage('swa', start={})", lambda start: averaged("swa", start=start), (10, 20)),
}
DECAYING = grid("ExponentialLR({})", falling, (0.9, 0.95))

EFFECTS = [
    Effect("RandomErasing", FEW, ERASING),
    Effect("RandomErasing", FEW, ERASING, measure="occluded", title="occluded images"),
    Effect("RandomPadCrop", FEW, SHIFTS),
    Effect("RandomPadCrop", FEW, SHIFTS, measure="shifted", title="shifted images"),
    Effect("RandomResizedCrop", FEW, images("RandomResizedCrop((8, 8), scale=({}, 1))", resized, (0.4, 0.6, 0.8))),
    Effect("MixUp", FEW, images("MixUp({})", layers.MixUp, (0.2, 0.4, 1.0))),
    Effect("CutMix", FEW, images("CutMix(rate={})", lambda rate: layers.CutMix(rate=rate), (0.5, 1.0))),
    Effect("RandomChoice", FEW, images(CHOICE, mixed, (0.2, 1.0))),
    Effect("RandomApply", FEW, TURNS),
    Effect("Pipeline", FEW, PIPELINES),
    Effect("LabelSmoothingCrossentropy", FEW, SMOOTHING),
    Effect("regularize", FEW, SURGERY),
    Effect(
        "StrengthSchedule", FEW, ENDING, {"CutMix(rate=Strength(1.0))": Recipe(augmentation=cut)},
        title="CutMix that ends",
    ),
    Effect("GradientHistograms", FEW, {"GradientHistograms()": watched()}),
    Effect("persist", FEW, {"persist and an interruption": Recipe(interrupted=True)}),
    Effect("PCAColorJitter", COLORS, JITTER, measure="relit", title="other light"),
    Effect("PCAColorJitter", COLORS, JITTER, title="the same light"),
    Effect("DropPath", DEEP, PATHS),
    Effect("DropBlock2D", NORMALIZED, BLOCKS),
    Effect(
        "StrengthSchedule", NORMALIZED, BEGINNING, {"DropBlock2D(Strength(0.1), block_size=3)": Recipe(blocks())},
        title="DropBlock2D that begins weakly",
    ),
    Effect(
        "exclude_from_weight_decay", NORMALIZED,
        grid("exclude_from_weight_decay(AdamW(weight_decay={}))", lambda decay: decayed(decay, True), DECAYS),
        grid("AdamW(weight_decay={})", lambda decay: decayed(decay, False), DECAYS),
    ),
    Effect("GhostBatchNormalization", LARGE, GHOSTS),
    Effect("NoisyBatchNormalization", LARGE, NOISES),
    Effect("FractionalMaxPooling2D", POOLED, POOLING),
    Effect("DropConnect", DENSE, CONNECTIONS),
    Effect("WeightNoise", DENSE, WEIGHT_NOISE),
    Effect("WeightNoise", DENSE, WEIGHT_NOISE, measure="perturbed", title="noise on the weights"),
    Effect("ExponentialLR", SMALL, DECAYING),
    Effect("ExponentialLR", SMALL, DECAYING, measure="worst", title="worst of the last ten epochs"),
    Effect("WeightAverage", SMALL, AVERAGES),
    Effect("WeightAverage", SMALL, AVERAGES, measure="worst", title="worst of the last ten epochs"),
    *STEPS,
    *PIXELS,
]  # fmt: skip

# The public names without an entry above: where their effect is measured, or why there is none.
ELSEWHERE = {
    "BatchAugmentation": "The base class of augmentations does nothing on its own.",
    "DivergenceStop": "Made for searches: see [its card](methods/divergence_stop.md).",
    "ExpectedCalibrationError": "It measures predictions: see [its card](methods/expected_calibration_error.md).",
    "LabelNoise": "[When labels are wrong](wrong_labels.md) has its measurements.",
    "MonteCarlo": "It changes predictions: see [its card](methods/monte_carlo.md).",
    "Penalty": "The base class of penalties does nothing on its own.",
    "Phase": "A phase of `TransferLearner`.",
    "RandAugment": "The [ladder](ladder.md) has its measurements on CIFAR-10.",
    "TrivialAugmentWide": "The [ladder](ladder.md) has its measurements on CIFAR-10.",
    "AutoAugment": "The [ladder](ladder.md) has its measurements on CIFAR-10.",
    "RegularizedModel": "It applies all augmentations of this page in training, and has no effect of its own.",
    "SmoothedEarlyStopping": "See [When labels are wrong](wrong_labels.md).",
    "SnapshotEnsemble": "It gives the members of an ensemble: see [its card](methods/snapshot_ensemble.md).",
    "Strength": "Measured with `StrengthSchedule`.",
    "TestTimeAugmentation": "It changes predictions: see [its card](methods/test_time_augmentation.md).",
    "TransferLearner": "[Transfer from ImageNet](transfer.md) has its measurements.",
    "bagging": "It trains the members of an ensemble: see [its card](methods/ensemble.md).",
    "calibrate": "Used after training: see [its card](methods/expected_calibration_error.md).",
    "drop_path_rates": "Measured with `DropPath`.",
    "ensemble": "It combines trained models: see [its card](methods/ensemble.md).",
    "five_crop": "Views of `TestTimeAugmentation`.",
    "flips": "Views of `TestTimeAugmentation`.",
    "freeze": "Used by `TransferLearner`.",
    "label_smoothing_crossentropy": "The function of `LabelSmoothingCrossentropy`.",
    "multi_scale": "Views of `TestTimeAugmentation`.",
    "reliability": "A diagram of predictions.",
    "soup": "It averages trained models: see [its card](methods/soup.md).",
    "suggest_phases": "Measured with `TransferLearner`.",
    "ten_crop": "Views of `TestTimeAugmentation`.",
    "train_ensemble": "It trains the members of an ensemble: see [its card](methods/ensemble.md).",
    "unfreeze": "Used by `TransferLearner`.",
}
