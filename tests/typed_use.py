"""Calls of the public API as a type checker sees them, read by `make lint` and never run.

mypy reports an ignored error that is not there, so the wrong calls show that annotations reach the user.
"""

import keras

from keras_reg import Strength, callbacks, inference, layers, losses, surgery, training, transfer


def right_calls(network: keras.Model) -> keras.Model | None:
    mixing = layers.RandomChoice([layers.MixUp(0.2, rate=Strength(0.5)), layers.CutMix()], [0.3, 0.7], mode="sample")
    augmentation = layers.Pipeline(
        [layers.RandomPadCrop((2, 3)), layers.RandomErasing(fill="pixel_noise"), mixing], seed=1
    )
    model = training.RegularizedModel(network, augmentation, augmented_input="images")
    model.compile("adam", losses.LabelSmoothingCrossentropy(0.1, class_weight={0: 2.0}))
    rates: list[float] | list[Strength] = layers.drop_path_rates(0.1, depth=3)
    given = callbacks.persist([callbacks.SmoothedEarlyStopping(smoothing=None), callbacks.ExponentialLR(0.9)], "folder")
    learner = transfer.TransferLearner(network, 10, preprocess=lambda x: x / 255)
    learner.fit(phases=[transfer.Phase("top", 3, unfreeze=["block5*"])], callbacks=given, backup_dir=None)
    snapshots = callbacks.SnapshotEnsemble(cycles=3)
    members = [*snapshots.models(), *inference.bagging(lambda: network, ([1], [2]), n=3, epochs=2)]
    members += inference.train_ensemble(lambda: network, lambda member: member.fit([1]), n=2, folder="members")
    soup: keras.Model = inference.soup(members, ([1], [2]), metric="accuracy")
    inference.ensemble([*members, soup]).predict([1])
    print(learner.joined_history().history, rates)
    return surgery.regularize(network, drop_path=Strength(0.1), dropout=0.5)


def wrong_calls(network: keras.Model) -> None:
    layers.MixUp("much")  # type: ignore[arg-type]
    layers.CutMix(mode="image")  # type: ignore[arg-type]
    layers.DropPath()  # type: ignore[call-arg]
    layers.GhostBatchNormalization(2.5)  # type: ignore[arg-type]
    losses.LabelSmoothingCrossentropy(class_weight="even")  # type: ignore[arg-type]
    callbacks.ExponentialLR(per="batch")  # type: ignore[arg-type]
    callbacks.SnapshotEnsemble(cycles="few")  # type: ignore[arg-type]
    inference.train_ensemble(network, network.fit, n=2.5)  # type: ignore[arg-type]
    transfer.Phase(3, 1)  # type: ignore[arg-type]
    transfer.suggest_phases(100, "other")  # type: ignore[arg-type]
    surgery.regularize(network, dropout="half")  # type: ignore[arg-type]
