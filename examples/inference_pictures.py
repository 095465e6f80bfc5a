"""Pictures of what is done with a trained network. See method_pictures.py."""

import digits
import keras
import numpy as np
from pictures import BLUE, GREY, RED, array, curves, picture
from step_pictures import LABELED, compiled

import keras_reg
from keras_reg import inference, layers, surgery


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


@picture
def ensemble():
    data, (figure, (left, right)) = digits.load(LABELED, 0), curves(8.4, 3.0, 2)
    networks = [trained(seed=seed) for seed in range(8)]
    counts = [1, 2, 4, 8]
    metrics = ["accuracy", keras_reg.metrics.ExpectedCalibrationError(from_logits=True)]
    found = []
    for count in counts:
        for first in range(0, 8, count):
            model = inference.ensemble(networks[first : first + count])
            model.compile(loss=networks[0].loss, metrics=metrics)
            found.append((count, *model.evaluate(data.x_test, data.y_test, verbose=0)))
    found = np.array(found)
    means = {count: found[found[:, 0] == count].mean(0)[1:].round(4) for count in counts}
    print({count: dict(zip(("loss", "accuracy", "ECE"), mean.tolist(), strict=True)) for count, mean in means.items()})
    for axis, column, scale, name in ((left, 1, 1, "negative log-likelihood"), (right, 2, 100, "accuracy (%)")):
        axis.plot(found[:, 0], scale * found[:, column], ".", color=GREY)
        axis.plot(counts, [scale * means[count][column - 1] for count in counts], "o-", color=BLUE)
        axis.set(xscale="log", xlabel="number of members", ylabel=name)
        axis.set_xticks(counts, map(str, counts))
        axis.minorticks_off()
    figure.tight_layout()
    return figure
