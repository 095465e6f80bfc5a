"""Pictures of what changes a training step: the gradient, or the loss by further passes. See method_pictures.py."""

import digits
import keras
import numpy as np
from pictures import BLUE, GREY, RED, array, curves, picture, plt

from keras_reg import layers, surgery, training

EPSILON = 1.0
LABELED = 200


def trained(epochs=60, rate=3e-3, dropout=0.0, **parts):
    """The network of docs/start.md, trained on 200 digits by a `RegularizedModel` with these parts."""
    keras.utils.set_random_seed(1)
    data, network = digits.load(LABELED, 0), digits.network()
    network = surgery.regularize(network, dropout=dropout) if dropout else network
    model = compiled(network, keras.optimizers.Adam(rate), **parts)
    model.fit(data.x_train, data.y_train, batch_size=digits.BATCH, epochs=epochs, verbose=0)
    return network


def compiled(network, optimizer="sgd", **parts):
    model = training.RegularizedModel(network, **parts)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def probabilities(network, images, training=False):
    return array(keras.ops.softmax(network(images, training=training)))


# Sharpness.


def loss_at(network, weights, images, labels):
    """The loss at other weights, to which the network is set."""
    network.set_weights(weights)
    logits = network(images, training=False)
    return float(keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)))


def random_directions(weights, count=8):
    """Normal directions with the norm of the weights, filter by filter: Li et al., 2018. Biases stay."""
    random = np.random.default_rng(0)
    for _ in range(count):
        yield [
            scaled(random.normal(size=weight.shape), weight) if weight.ndim > 1 else np.zeros_like(weight)
            for weight in weights
        ]


def scaled(direction, weight):
    axes = tuple(range(weight.ndim - 1))
    norms = [np.sqrt(np.square(x).sum(axes, keepdims=True)) for x in (weight, direction)]
    return direction * norms[0] / norms[1]


def gradient(network, images, labels):
    """The gradient of the loss: what a step of SGD at a rate of 1 subtracts."""
    before = network.get_weights()
    compiled(network, keras.optimizers.SGD(1.0)).train_on_batch(images, labels)
    found = [old - new for old, new in zip(before, network.get_weights(), strict=True)]
    network.set_weights(before)
    return found


def rise(network, weights, images, labels, radii):
    """How much the loss of a batch rises where `SharpnessAware` looks."""
    slopes = gradient(network, images, labels)
    moved = [training.SharpnessAware(radius).perturbed(weights, slopes) for radius in radii]
    found = [loss_at(network, [array(w) for w in place], images, labels) for place in (weights, *moved)]
    return np.array(found[1:]) - found[0]


@picture
def sharpness_aware():
    data, figure, (left, right) = digits.load(LABELED, 0), *curves(8.4, 2.9, 2)
    batches = np.arange(LABELED // digits.BATCH * digits.BATCH).reshape(-1, digits.BATCH)
    shares, radii = np.linspace(-1, 1, 21), np.linspace(0, 0.5, 11)
    for sharpness, color in ((None, GREY), (training.SharpnessAware(0.05), BLUE), (training.SharpnessAware(0.2), RED)):
        network, name = trained(sharpness=sharpness), f"SharpnessAware({sharpness.rho})" if sharpness else "without"
        weights = network.get_weights()
        found = [
            [
                loss_at(network, [w + t * d for w, d in zip(weights, way, strict=True)], data.x_train, data.y_train)
                for t in shares
            ]
            for way in random_directions(weights)
        ]
        left.plot(shares, np.mean(found, 0), color=color, label=name)
        left.fill_between(shares, *np.quantile(found, (0.25, 0.75), axis=0), color=color, alpha=0.15, lw=0)
        rises = [rise(network, weights, data.x_train[rows], data.y_train[rows], radii) for rows in batches]
        right.plot(radii, np.mean(rises, 0), color=color)
    left.set(xlabel="share of the norm of each filter", ylabel="training loss", ylim=(0, None))
    left.set_title("random directions: mean and quartiles of eight", fontsize=9, loc="left")
    right.set(xlabel="distance rho from the weights", ylabel="rise of the loss of a batch", ylim=(0, None))
    right.set_title("direction of its gradient: mean of six batches", fontsize=9, loc="left")
    left.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


# Directions in which predictions change.


class Observer(keras.layers.Layer):
    """Keeps its last inputs."""

    def call(self, inputs):
        self.last = inputs
        return inputs


def adversarial(network, images, labels):
    """The changed images of the last pass of `VirtualAdversarial`."""
    observer = Observer()
    observed = keras.Sequential([keras.Input(images.shape[1:]), observer, network])
    penalty = training.VirtualAdversarial(EPSILON, iterations=10, seed=0)
    model = compiled(observed, penalties=[penalty])
    model.compute_loss(images, labels, observed(images), training=True)
    return array(observer.last)


@picture
def virtual_adversarial():
    data, count = digits.load(LABELED, 0), 500
    plain, robust = trained(), trained(penalties=[training.VirtualAdversarial(EPSILON)])
    images, labels = data.x_test[:count], data.y_test[:count]
    random = np.random.default_rng(0).normal(size=images.shape)
    random = images + EPSILON * random / np.sqrt(np.square(random).sum((1, 2, 3), keepdims=True))
    moved = [adversarial(network, images, labels) for network in (plain, robust)]
    cases = [(plain, images), (plain, moved[0]), (plain, random), (robust, moved[1])]
    classes = [probabilities(*case).argmax(-1) for case in cases]
    shown = np.flatnonzero((classes[0] == labels) & (classes[1] != labels))[:2]
    figure, axes = plt.subplots(2, 5, figsize=(8.75, 4.5))
    titles = ["image", "image + r", "random direction", "trained with it, own r"]
    for row, i in zip(axes, shown, strict=True):
        show(row[1], (moved[0] - images)[i], "direction r\nof this network", signed=True)
        for axis, title, case in zip(row[[0, 2, 3, 4]], titles, cases, strict=True):
            show(axis, case[1][i], f"{title}\n{verdict(case[0], case[1][i])}")
    before = [classes[0], classes[0], probabilities(robust, images).argmax(-1)]
    for axis, old, new in zip(axes[1, 2:], before, classes[1:], strict=True):
        text = f"class changes for\n{100 * np.mean(old != new):.0f} % of {count} images"
        axis.text(0.5, -0.05, text, transform=axis.transAxes, ha="center", va="top", fontsize=9)
    figure.tight_layout(pad=0.4, h_pad=1.8)
    return figure


def show(axis, image, title, signed=False):
    limit = 0.5 if signed else 1.25
    axis.imshow(image[..., 0], cmap="RdBu_r" if signed else "gray_r", vmin=-limit if signed else -0.25, vmax=limit)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


def verdict(network, image):
    """ "8 with 0.93": the class that is predicted, and its probability."""
    (found,) = probabilities(network, image[None])
    return f"{found.argmax()} with {found.max():.2f}"


@picture
def consistent_dropout():
    data, figure, (left, right) = digits.load(LABELED, 0), *curves(8.4, 3.0, 2)
    networks = {
        "dropout of 0.5": trained(rate=1e-3, dropout=0.5),
        "with ConsistentDropout(4)": trained(rate=1e-3, dropout=0.5, penalties=[training.ConsistentDropout(4.0)]),
    }
    passes = {
        name: np.stack([probabilities(network, data.x_test, training=True) for _ in range(20)])
        for name, network in networks.items()
    }
    spread = sum(found.std(0).max(-1) for found in passes.values())
    shown = np.argsort(-spread)[:320:40]  # from the least certain images of both networks on
    for (name, found), color, offset in zip(passes.items(), (GREY, RED), (-0.15, 0.15), strict=True):
        chosen = found[:, shown, data.y_test[shown]]
        left.plot(np.tile(np.arange(8) + offset, (20, 1)), chosen, ".", ms=4, alpha=0.5, color=color)
        first, second = np.maximum(found[:2], 1e-7)
        divergences = np.sort((first * np.log(first / second)).sum(-1))[::-1]
        label = f"{name}: mean {divergences.mean():.2f}"
        right.plot(100 * np.arange(1, len(divergences) + 1) / len(divergences), divergences, color=color, label=label)
    for place, i in enumerate(shown):
        inset = left.inset_axes([place - 0.4, -0.32, 0.8, 0.26], transform=left.transData)
        inset.imshow(data.x_test[i, ..., 0], cmap="gray_r")
        inset.axis("off")
    left.set(ylabel="probability of the true class\nin 20 passes", xlim=(-0.6, 7.6), ylim=(-0.04, 1.04), xticks=[])
    right.set(xlabel="% of test images", ylabel="KL between two passes", xlim=(0, 40), ylim=(0, None))
    right.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


@picture
def jensen_shannon_consistency():
    data, augmentation = digits.load(LABELED, 0), {"severity": 5, "value_range": (0, 1)}
    penalty = training.JensenShannonConsistency(layers.AugMix(**augmentation, seed=1))
    networks = {"without": trained(), "with the penalty": trained(penalties=[penalty])}
    draw = layers.AugMix(**augmentation, seed=0)
    images = [data.x_test, *(array(draw(data.x_test)) for _ in range(2))]
    found = {name: np.stack([probabilities(network, x) for x in images]) for name, network in networks.items()}
    classes = found["without"].argmax(-1)
    right = classes[0] == data.y_test
    robust = (found["with the penalty"].argmax(-1) == data.y_test).all(0)
    shown = np.flatnonzero(right & robust & (classes[1] != classes[0]))[:2]
    figure = plt.figure(figsize=(8.75, 4.3), layout="constrained")
    grid = figure.add_gridspec(2, 5)
    for row, i in enumerate(shown):
        for column, x in enumerate(images):
            axis = figure.add_subplot(grid[row, column])
            axis.imshow(x[i, ..., 0], cmap="gray_r", vmin=0, vmax=1)
            axis.axis("off")
            lines = [f"{name}: {p[column, i].argmax()} ({p[column, i].max():.2f})" for name, p in found.items()]
            axis.set_title("\n".join(["copy" if column else "image", *lines]), fontsize=8)
    axis = figure.add_subplot(grid[:, 3:])
    for (name, outputs), color in zip(found.items(), (GREY, RED), strict=True):
        divergences = np.sort(jensen_shannon(outputs))[::-1]
        share, label = (
            100 * np.arange(1, len(divergences) + 1) / len(divergences),
            f"{name}: mean {divergences.mean():.3f}",
        )
        axis.plot(share, divergences, color=color, label=label)
    axis.set(xlabel="% of test images", ylabel="divergence of the three outputs", xlim=(0, 40), ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    return figure


def jensen_shannon(outputs):
    """The divergence of the first axis for each image."""
    outputs = np.maximum(outputs, 1e-7)
    return (outputs * np.log(outputs / outputs.mean(0))).sum(-1).mean(0)


@picture
def confidence_penalty():
    margins, (figure, (left, right)) = np.linspace(-1, 9, 101), curves(8.4, 2.8, 2)
    data, edges = digits.load(LABELED, 0), np.linspace(0, 1, 21)
    identity = keras.Sequential([keras.Input((10,)), keras.layers.Activation("linear")])
    for weight, color in ((0.0, GREY), (0.2, BLUE), (0.5, RED)):
        penalties = [training.ConfidencePenalty(weight)]
        model, name = compiled(identity, penalties=penalties), f"weight={weight:g}"
        rows = [margin * np.eye(10, dtype="float32")[:1] for margin in margins]
        losses = [float(model.compute_loss(x, np.zeros(1, "int32"), identity(x), training=True)) for x in rows]
        left.plot(margins, losses, color=color, label=name)
        if weight:
            left.plot(margins[np.argmin(losses)], min(losses), "o", color=color)
        most = probabilities(trained(penalties=penalties), data.x_test).max(-1)
        right.hist(
            most, edges, weights=np.full(len(most), 100 / len(most)), histtype="step", color=color, lw=1.5, label=name
        )
    left.set(xlabel="logit of the true class (nine other logits are 0)", ylabel="loss and penalty")
    left.legend(frameon=False, fontsize=9)
    right.set(xlabel="largest probability for a test image", ylabel="% of images")
    figure.tight_layout()
    return figure
