"""Pictures of what is done with a trained network. See method_pictures.py."""

import itertools

import digits
import keras
import numpy as np
from pictures import BLUE, GREY, RED, array, curves, picture
from step_pictures import LABELED, compiled

import keras_reg
from keras_reg import callbacks, inference, layers, surgery


def trained(network=None, epochs=60, rate=3e-3, seed=1, **parts):
    """The network of docs/start.md, trained on 200 digits."""
    keras.utils.set_random_seed(seed)
    data, network = digits.load(LABELED, 0), network or digits.network()
    compiled(network, keras.optimizers.Adam(rate), **parts).fit(
        data.x_train, data.y_train, batch_size=digits.BATCH, epochs=epochs, verbose=0
    )
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


def nll(probabilities, labels):
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-7)).mean()


@picture
def test_time_augmentation():
    data, (figure, (left, right)) = digits.load(LABELED, 0), curves(8.4, 3.0, 2)
    network = trained(augmentation=layers.RandomPadCrop(1, seed=0))
    view = inference.TestTimeAugmentation(network, layers.RandomPadCrop(1, seed=1), samples=1)
    found = np.stack([array(keras.ops.softmax(view(data.x_test))) for _ in range(32)])
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
    counts = [1, 2, 4, 8, 16, 32]
    losses = [[nll(found[k : k + n].mean(0), data.y_test) for k in range(0, 32, n)] for n in counts]
    right.plot(counts, [np.mean(each) for each in losses], "o-", color=BLUE)
    plain = array(keras.ops.softmax(network(data.x_test)))
    right.axhline(nll(plain, data.y_test), color=GREY, label="the image itself")
    right.set(xscale="log", xlabel="number of shifted views", ylabel="negative log-likelihood")
    right.set_xticks(counts, map(str, counts))
    right.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def monte_carlo():
    data, (figure, (left, right)) = digits.load(LABELED, 0), curves(8.4, 3.0, 2)
    network = trained(surgery.regularize(digits.network(), dropout=0.5))
    random = np.random.default_rng(0)
    pixels = data.x_test.reshape(len(data.x_test), -1)
    others = random.permuted(pixels, axis=1).reshape(data.x_test.shape)
    drawing = inference.MonteCarlo(network, 20, seed=0)
    for images, color, name in ((data.x_test, BLUE, "digits"), (others, RED, "shuffled pixels")):
        found = drawing.predict(images, verbose=0)
        left.plot(found["entropy"], found["mutual_information"], ".", ms=3, alpha=0.4, color=color, label=name)
        print(name, {key: round(float(value.mean()), 3) for key, value in found.items()})
    left.set(xlabel="entropy of the mean", ylabel="mutual information", xlim=(0, None), ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    counts = [2, 5, 10, 20, 50]
    losses = [inference.MonteCarlo(network, n, seed=0).evaluate(data.x_test, data.y_test, verbose=0) for n in counts]
    plain = network.evaluate(data.x_test, data.y_test, verbose=0)
    print(dict(zip(counts, losses, strict=True)), plain)
    right.plot(counts, losses, "o-", color=BLUE)
    right.axhline(plain, color=GREY, label="without dropout")
    right.set(xscale="log", xlabel="number of passes", ylabel="negative log-likelihood")
    right.set_xticks(counts, map(str, counts))
    right.minorticks_off()
    right.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def expected_calibration_error():
    data, (figure, axes) = digits.load(LABELED, 0), curves(8.4, 3.6, 2)
    network, half = trained(), len(data.x_test) // 2
    calibrated = inference.calibrate(network, (data.x_test[:half], data.y_test[:half]))
    x, y = data.x_test[half:], data.y_test[half:]
    for axis, model, name in zip(axes, (network, calibrated), ("trained", "calibrated"), strict=True):
        inference.reliability(model, (x, y), bins=10, from_logits=True, ax=axis)
        title = f"{name}: {axis.get_title()}"
        axis.set_title("")
        axis.set_title(title, fontsize=9, loc="left")
        p = array(keras.ops.softmax(model(x)))
        print(f"{title}, loss {nll(p, y):.3f}, accuracy {np.mean(p.argmax(-1) == y):.3f}")
    print(f"temperature {1 / calibrated.get_layer('temperature').scale:.2f}")
    figure.tight_layout()
    return figure


def in_groups(networks, counts):
    """Rows (count, loss, accuracy, ECE) on the test digits, of ensembles of disjoint groups of networks."""
    data, found = digits.load(LABELED, 0), []
    metrics = ["accuracy", keras_reg.metrics.ExpectedCalibrationError(from_logits=True)]
    for count in counts:
        for first in range(0, len(networks) - count + 1, count):
            model = inference.ensemble(networks[first : first + count])
            model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=metrics)
            found.append((count, *model.evaluate(data.x_test, data.y_test, verbose=0)))
    return np.array(found)


def draw_groups(axes, found, counts, color, label):
    """Draws losses and accuracies of ensembles and their means, and prints the means."""
    means = {count: found[found[:, 0] == count].mean(0)[1:].round(4) for count in counts}
    names = ("loss", "accuracy", "ECE")
    print(label, {count: dict(zip(names, mean.tolist(), strict=True)) for count, mean in means.items()})
    for axis, column, scale, name in zip(
        axes, (1, 2), (1, 100), ("negative log-likelihood", "accuracy (%)"), strict=True
    ):
        axis.plot(found[:, 0], scale * found[:, column], ".", color=color, alpha=0.3)
        axis.plot(counts, [scale * means[count][column - 1] for count in counts], "o-", color=color, label=label)
        axis.set(xscale="log", xlabel="number of members", ylabel=name)
        axis.set_xticks(counts, map(str, counts))
        axis.minorticks_off()


def build(rate=3e-3):
    network = digits.network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return network


@picture
def ensemble():
    data, (figure, axes), counts = digits.load(LABELED, 0), curves(8.4, 3.0, 2), [1, 2, 4, 8]
    examples, options = (data.x_train, data.y_train), {"epochs": 60, "batch_size": digits.BATCH}
    members = inference.train_ensemble(build, lambda model: model.fit(*examples, **options, verbose=0), 8)
    bags = inference.bagging(build, examples, 8, **options)
    for networks, color, label in ((members, BLUE, "all digits"), (bags, RED, "bootstrap samples")):
        draw_groups(axes, in_groups(networks, counts), counts, color, label)
    axes[0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def snapshot_ensemble():
    data, (figure, (left, right)), cycles = digits.load(LABELED, 0), curves(8.4, 3.0, 2), 5
    options = {"epochs": 60, "batch_size": digits.BATCH, "validation_data": (data.x_test, data.y_test), "verbose": 0}
    plain, combined, last = [], [], []
    for seed in range(3):
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
    left.set(xlabel="epoch", ylabel="negative log-likelihood", ylim=(0.2, 1.0))
    left.legend(frameon=False, fontsize=9)
    combined, constant = np.array(combined), np.array([[h["val_loss"][-1], h["val_accuracy"][-1]] for h in plain])
    print("constant", constant.mean(0), constant.std(0, ddof=1), "last k", combined.mean(0), combined.std(0, ddof=1))
    for found in combined[..., 0]:
        right.plot(range(1, cycles + 1), found, "o-", color=BLUE, alpha=0.6)
    for found in constant[:, 0]:
        right.axhline(found, color=GREY, lw=1)
    right.set(xlabel="number of last members combined", ylabel="negative log-likelihood")
    figure.tight_layout()
    return figure


@picture
def soup():
    (figure, axes), names = curves(8.4, 3.0, 3), ("members", "uniform soup", "greedy soup", "ensemble")
    rates, augmentations = (1e-3, 3e-3), (None, layers.RandomPadCrop(1, seed=0))
    for seed, axis in enumerate(axes):
        data = digits.load(LABELED, seed)
        validation, test = ((data.x_test[part], data.y_test[part]) for part in (slice(300), slice(300, None)))
        start = trained(seed=seed, epochs=15)
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
        for place, (name, group) in enumerate(zip(names, found, strict=True)):
            print(seed, name, group.round(4).tolist())
            axis.plot(np.full(len(group), place), group[:, 0], "o", color=GREY if place == 0 else RED, alpha=0.8)
        axis.set_xticks(range(4), [name.replace(" ", "\n") for name in names], fontsize=8)
        axis.set(ylabel="negative log-likelihood" if seed == 0 else None, xlim=(-0.5, 3.5))
        axis.set_title(f"seed {seed}", fontsize=9, loc="left")
    figure.tight_layout()
    return figure
