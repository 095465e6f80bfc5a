"""Pictures of what is done with a trained network. See method_pictures.py."""

import itertools

import digits
import keras
import numpy as np
from pictures import BLUE, GREY, RED, array, curves, measured, picture
from step_pictures import LABELED, compiled

import keras_reg
from keras_reg import callbacks, inference, layers, surgery

SEEDS = (0, 1, 2)


def trained(seed, make=digits.network, epochs=60, rate=3e-3, **parts):
    """The network of docs/start.md, trained on the 200 digits of a seed, and these digits."""
    keras.utils.set_random_seed(seed)
    data, network = digits.load(LABELED, seed), make()
    compiled(network, keras.optimizers.Adam(rate), **parts).fit(
        data.x_train, data.y_train, batch_size=digits.BATCH, epochs=epochs, verbose=0
    )
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network, data


def nll(probabilities, labels):
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-7)).mean()


def lines(axis, counts, losses, plain, name):
    """A line for each seed over `counts`, and one for each over all of them."""
    axis.plot(counts, np.transpose(losses), "o-", color=BLUE, ms=4, alpha=0.7)
    for number, loss in enumerate(plain):
        axis.axhline(loss, color=GREY, alpha=0.8, label=None if number else name)


@picture
def test_time_augmentation():
    (figure, (left, right)), counts, plain, views = curves(8.4, 3.0, 2), [1, 2, 4, 8, 16, 32], [], []
    for seed in reversed(SEEDS):  # the points on the left are those of seed 0
        network, data = trained(seed, augmentation=layers.RandomPadCrop(1, seed=0))
        view = inference.TestTimeAugmentation(network, layers.RandomPadCrop(1, seed=1), samples=1)
        found = np.stack([array(keras.ops.softmax(view(data.x_test))) for _ in range(32)])
        views.append([np.mean([nll(found[k : k + n].mean(0), data.y_test) for k in range(0, 32, n)]) for n in counts])
        plain.append(nll(array(keras.ops.softmax(network(data.x_test))), data.y_test))
    measured("test_time_augmentation", plain=plain, views=views, change=np.array(views)[:, -1] - plain)
    spread = found.std(0).max(-1)
    shown = np.argsort(-spread)[:320:40]
    for place, i in enumerate(shown):
        chosen = found[:, i, data.y_test[i]]
        left.plot(np.full(32, place), chosen, ".", ms=4, alpha=0.5, color=GREY)
        left.plot([place - 0.3, place + 0.3], [chosen.mean()] * 2, color=RED)
        inset = left.inset_axes([place - 0.4, -0.32, 0.8, 0.26], transform=left.transData)
        inset.imshow(data.x_test[i, ..., 0], cmap="gray_r")
        inset.axis("off")
    left.set(ylabel="probability of the true class\n32 shifts and their mean", xlim=(-0.6, 7.6), ylim=(-0.04, 1.04))
    left.set_xticks([])
    lines(right, counts, views, plain, "the image itself")
    right.set(xscale="log", xlabel="number of shifted views", ylabel="negative log-likelihood")
    right.set_xticks(counts, map(str, counts))
    right.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def monte_carlo():
    (figure, (left, right)), counts, plain, passes, information = curves(8.4, 3.0, 2), [2, 5, 10, 20, 50], [], [], []
    for seed in SEEDS:
        network, data = trained(seed, lambda: surgery.regularize(digits.network(), dropout=0.5))
        given = data.x_test, data.y_test
        plain.append(network.evaluate(*given, verbose=0))
        passes.append([inference.MonteCarlo(network, n, seed=0).evaluate(*given, verbose=0) for n in counts])
        pixels = data.x_test.reshape(len(data.x_test), -1)
        others = np.random.default_rng(0).permuted(pixels, axis=1).reshape(data.x_test.shape)
        drawing = inference.MonteCarlo(network, 20, seed=0)
        found = [drawing.predict(images, verbose=0) for images in (data.x_test, others)]
        information.append([each["mutual_information"].mean() for each in found])
        for each, color, name in zip(found, (BLUE, RED), ("digits", "shuffled pixels"), strict=True):
            if seed == 0:
                left.plot(each["entropy"], each["mutual_information"], ".", ms=3, alpha=0.4, color=color, label=name)
    change = np.array(passes)[:, counts.index(20)] - plain
    measured("monte_carlo", plain=plain, passes=passes, change=change, information=information)
    left.set(xlabel="entropy of the mean", ylabel="mutual information", xlim=(0, None), ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    lines(right, counts, passes, plain, "without dropout")
    right.set(xscale="log", xlabel="number of passes", ylabel="negative log-likelihood")
    right.set_xticks(counts, map(str, counts))
    right.minorticks_off()
    right.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


def of_probabilities(probabilities, labels):
    """The calibration error with 10 bins, the negative log-likelihood and the accuracy."""
    error = keras_reg.metrics.ExpectedCalibrationError(bins=10)
    error.update_state(labels, probabilities)
    return [float(error.result()), nll(probabilities, labels), np.mean(probabilities.argmax(-1) == labels)]


@picture
def expected_calibration_error():
    (figure, axes), found, temperatures = curves(8.4, 3.6, 2), [], []
    for seed in SEEDS:
        network, data = trained(seed)
        half = len(data.x_test) // 2
        calibrated = inference.calibrate(network, (data.x_test[:half], data.y_test[:half]))
        x, y = data.x_test[half:], data.y_test[half:]
        found.append([of_probabilities(array(keras.ops.softmax(model(x))), y) for model in (network, calibrated)])
        temperatures.append(1 / calibrated.get_layer("temperature").scale)
        for axis, model, name in zip(axes, (network, calibrated), ("trained", "calibrated"), strict=True):
            if seed == 0:
                inference.reliability(model, (x, y), bins=10, from_logits=True, ax=axis)
                title = f"{name}: {axis.get_title()}"
                axis.set_title("")
                axis.set_title(title, fontsize=9, loc="left")
    trained_rows, calibrated_rows = np.moveaxis(found, 1, 0)
    measured("expected_calibration_error", trained=trained_rows, calibrated=calibrated_rows, temperature=temperatures)
    figure.tight_layout()
    return figure


def in_groups(networks, counts, data):
    """For each count the mean loss, accuracy and calibration error of ensembles of disjoint groups of networks."""
    means, metrics = [], ["accuracy", keras_reg.metrics.ExpectedCalibrationError(from_logits=True)]
    for count in counts:
        found = []
        for first in range(0, len(networks) - count + 1, count):
            model = inference.ensemble(networks[first : first + count])
            model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=metrics)
            found.append(model.evaluate(data.x_test, data.y_test, verbose=0))
        means.append(np.mean(found, axis=0))
    return means


def build(rate=3e-3):
    network = digits.network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return network


@picture
def ensemble():
    (figure, axes), counts, options = curves(8.4, 3.0, 2), [1, 2, 4, 8], {"epochs": 60, "batch_size": digits.BATCH}
    of_members, of_bags = [], []
    for seed in SEEDS:
        data = digits.load(LABELED, seed)
        examples = data.x_train, data.y_train
        members = inference.train_ensemble(
            build, lambda model, given=examples: model.fit(*given, **options, verbose=0), 8
        )
        of_members.append(in_groups(members, counts, data))
        of_bags.append(in_groups(inference.bagging(build, examples, 8, **options), counts, data))
    measured("ensemble", members=of_members, bags=of_bags)
    for color, name, found in ((BLUE, "all digits", of_members), (RED, "bootstrap samples", of_bags)):
        for axis, column, scale in zip(axes, (0, 1), (1, 100), strict=True):
            axis.plot(counts, scale * np.array(found)[..., column].T, "-", color=color, alpha=0.25)
            axis.plot(counts, scale * np.mean(found, axis=0)[:, column], "o-", color=color, label=name)
            axis.set(xscale="log", xlabel="number of members")
            axis.set_xticks(counts, map(str, counts))
            axis.minorticks_off()
    axes[0].set_ylabel("negative log-likelihood")
    axes[1].set_ylabel("accuracy (%)")
    axes[0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def snapshot_ensemble():
    (figure, (left, right)), cycles = curves(8.4, 3.0, 2), 5
    plain, combined, last = [], [], []
    for seed in SEEDS:
        data, options = digits.load(LABELED, seed), {"epochs": 60, "batch_size": digits.BATCH, "verbose": 0}
        options["validation_data"] = data.x_test, data.y_test
        keras.utils.set_random_seed(seed)
        plain.append(build().fit(data.x_train, data.y_train, **options).history)
        keras.utils.set_random_seed(seed)
        snapshots = callbacks.SnapshotEnsemble(cycles)
        last.append(build().fit(data.x_train, data.y_train, **options, callbacks=[snapshots]).history)
        members = snapshots.models()
        models = [inference.ensemble(members[-count:]) for count in range(1, cycles + 1)]
        combined.append([model.evaluate(data.x_test, data.y_test, verbose=0) for model in models])
    left.plot(np.arange(1, 61), plain[0]["val_loss"], color=GREY, label="constant learning rate")
    left.plot(np.arange(1, 61), last[0]["val_loss"], color=RED, label="five cycles")
    left.plot(np.array(snapshots.epochs) + 1, np.array(last[0]["val_loss"])[snapshots.epochs], "o", color=RED)
    left.set(xlabel="epoch", ylabel="negative log-likelihood", ylim=(0.1, 1.0))
    left.legend(frameon=False, fontsize=9)
    combined, constant = np.array(combined), np.array([[h["val_loss"][-1], h["val_accuracy"][-1]] for h in plain])
    lowest, change = [min(history["val_loss"]) for history in plain], combined[:, -1, 0] - constant[:, 0]
    measured("snapshot_ensemble", constant=constant, members=combined, change=change, lowest=lowest)
    lines(right, range(1, cycles + 1), combined[..., 0], constant[:, 0], "constant learning rate")
    right.margins(y=0.2)
    right.legend(fontsize=9, frameon=False, loc="upper right")
    right.set(xlabel="number of last members combined", ylabel="negative log-likelihood")
    figure.tight_layout()
    return figure


@picture
def soup():
    (figure, axes), names = curves(8.4, 3.0, 3), ("members", "uniform soup", "greedy soup", "ensemble")
    rates, augmentations = (1e-3, 3e-3), (None, layers.RandomPadCrop(1, seed=0))
    losses = []
    for seed, axis in zip(SEEDS, axes, strict=True):
        start, data = trained(seed, epochs=15)
        validation, test = ((data.x_test[part], data.y_test[part]) for part in (slice(300), slice(300, None)))
        members = []
        for number, (rate, shift) in enumerate(itertools.product(rates, augmentations)):
            network = build(rate)
            network.set_weights(start.get_weights())
            model = compiled(network, keras.optimizers.Adam(rate), augmentation=shift)
            keras.utils.set_random_seed(number)
            model.fit(data.x_train, data.y_train, batch_size=digits.BATCH, epochs=15, verbose=0)
            members.append(network)
        uniform = inference.soup(members, greedy=False)
        greedy = inference.soup(members, validation, verbose=1)
        groups = [members, [uniform], [greedy], [inference.ensemble(members)]]
        found = [np.array([model.evaluate(*test, verbose=0) for model in models]) for models in groups]
        for place, group in enumerate(found):
            axis.plot(np.full(len(group), place), group[:, 0], "o", color=GREY if place == 0 else RED, alpha=0.8)
        losses.append([group[:, 0].min() for group in found])
        axis.set_xticks(range(4), [name.replace(" ", "\n") for name in names], fontsize=8)
        axis.set(ylabel="negative log-likelihood" if seed == 0 else None, xlim=(-0.5, 3.5))
        axis.set_title(f"seed {seed}", fontsize=9, loc="left")
    losses = np.array(losses)
    measured("soup", best=losses[:, 0], uniform=losses[:, 1], greedy=losses[:, 2], ensemble=losses[:, 3],
             greedy_minus_best=losses[:, 2] - losses[:, 0])  # fmt: skip
    figure.tight_layout()
    return figure
