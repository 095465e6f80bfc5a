# %% [markdown]
# # When labels are wrong
#
# A network that trains for long memorizes its training set, including the labels that are wrong. Which methods prevent
# this? Train the same network with each method while 0, 20 or 40 % of the labels are wrong, also in the validation set.
# After every epoch, evaluate the network on test images with correct labels, and measure the share of the wrong labels
# that it remembers: how often it predicts the wrong label of a training image.
#
# By default, the program trains the network of `docs/start.md` on digits. With `--features FILE.npz`, it trains a dense
# network on features, such as those that `pretrained.py` writes.

# %%
import argparse
import logging
import os
import pathlib
import sys
import time
from typing import NamedTuple

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import digits
import example_data
import keras
import numpy as np
from saved_runs import resume, save
from wrong_labels_results import choice, draw, tables

from keras_reg import layers
from keras_reg.callbacks import DivergenceStop, SmoothedEarlyStopping
from keras_reg.losses import LabelSmoothingCrossentropy
from keras_reg.training import RegularizedModel

logging.getLogger("tensorflow").setLevel("ERROR")  # each of the many models is traced

# The most interesting ones first
CONDITIONS = [("symmetric", 40), ("symmetric", 0), ("pairs", 40), ("symmetric", 20), ("pairs", 20)]


# %% [markdown]
# Symmetric: a wrong label is any other class with the same probability. Pairs: it is always the next class, as if two
# classes were confused. This is harder, since the wrong labels agree with each other.
#
# Four fifths of the labeled images are used for training, and one fifth for validation. The test images are others.


# %%
TESTED = 600  # test images at most
TUNING = 10  # the seed of `--choose`


class Split(NamedTuple):
    """Images, the labels that are given, and the correct ones."""

    x: np.ndarray
    given: np.ndarray
    correct: np.ndarray
    x_val: np.ndarray
    given_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def split(features, labeled, percent, kind, seed):
    if features is None:
        x, _, x_test, y_test, correct = digits.load(labeled, seed)
    else:
        x, correct, x_test, y_test = shuffled_and_standardized(example_data.load(features, labeled, seed), seed)
        until = 3 * len(x_test) // 5
        judged = slice(until) if seed == TUNING else slice(until, None)
        x_test, y_test = x_test[judged], y_test[judged]  # `--choose` judges by other images than the reported runs
    given = digits.wrong_labels(correct, percent / 100, seed, kind=kind)
    count = round(0.8 * labeled)
    return Split(x[:count], given[:count], correct[:count], x[count:], given[count:], x_test[:TESTED], y_test[:TESTED])


def shuffled_and_standardized(data, seed):
    order = np.random.default_rng(seed).permutation(len(data.x_train))
    mean, deviation = data.x_train.mean(0), data.x_train.std(0) + 1e-6
    x, x_test = ((part - mean) / deviation for part in (data.x_train[order], data.x_val))
    return x, data.y_train[order], x_test, data.y_val


# %% [markdown]
# The methods, each as a function of its strength. It returns the augmentation and the label smoothing. Features have no
# pixels that could be shifted or cut, so they are mixed by MixUp only. All methods use Adam's default learning rate.
# The plain network is also trained with another one, the better of two.


# %%
def plain(rate, images, seed):
    return None, 0.0


def label_smoothing(strength, images, seed):
    return None, strength


def label_noise(rate, images, seed):
    return layers.LabelNoise(rate, num_classes=10, seed=seed), 0.0


def mix_up(alpha, images, seed):
    return layers.MixUp(alpha, seed=seed), 0.0


def cut_mix(rate, images, seed):
    return layers.CutMix(1.0, rate=rate, seed=seed), 0.0


def combination(strength, images, seed):
    return digits.augmentation(seed) if images else layers.MixUp(8.0, seed=seed), strength


SLOW = "plain, another learning rate"
METHODS = {  # name: the function, and the strengths to choose from
    "plain": (plain, (1e-3,)),
    SLOW: (plain, (3e-4, 3e-3)),
    "Dropout": (plain, (0.3, 0.5, 0.7)),
    "LabelSmoothingCrossentropy": (label_smoothing, (0.1, 0.3, 0.5)),
    "LabelNoise": (label_noise, (0.1, 0.2, 0.4)),
    "MixUp": (mix_up, (0.4, 1.0, 8.0)),
    "CutMix": (cut_mix, (0.5, 1.0)),
    "combination": (combination, (0.0, 0.1, 0.3)),
}
STRENGTHS = {  # those that were chosen
    "digits": {
        "plain": 1e-3, SLOW: 3e-4, "Dropout": 0.7, "LabelSmoothingCrossentropy": 0.5, "LabelNoise": 0.4, "MixUp": 8.0,
        "CutMix": 1.0, "combination": 0.1,
    },
    "features": {
        "plain": 1e-3, SLOW: 3e-4, "Dropout": 0.7, "LabelSmoothingCrossentropy": 0.3, "LabelNoise": 0.2, "MixUp": 0.4,
        "combination": 0.1,
    },
}  # fmt: skip


def network(shape, dropout):
    if len(shape) == 3:
        model = digits.network(shape)
    else:
        hidden = keras.layers.Dense(128, activation="relu")
        model = keras.Sequential([keras.Input(shape), hidden, keras.layers.Dense(10)])
    if dropout:
        *lower, head = model.layers
        model = keras.Sequential([keras.Input(shape), *lower, keras.layers.Dropout(dropout), head])
    return model


# %% [markdown]
# The callbacks that stop training watch every run, on the real network, and note their decision. Training goes on, so
# one run shows the result of each of them: the network of the epoch that it restores, or in which it stops.


# %%
class Watch(keras.callbacks.Callback):
    """Notes in which epoch another callback stops training, without stopping it."""

    def __init__(self, callback):
        super().__init__()
        self.callback, self.stopped = callback, None

    def set_model(self, model):
        super().set_model(model)
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self.callback.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.stopped is None:
            self.callback.on_epoch_end(epoch, logs)
            self.stopped = epoch if self.model.stop_training else None
            self.model.stop_training = False

    def decision(self, epochs):
        """The number of trained epochs, and the epoch whose weights the network has then."""
        trained = epochs if self.stopped is None else self.stopped + 1
        return {"trained": trained, "kept": getattr(self.callback, "best_epoch", trained - 1)}


def watches():
    of_keras = keras.callbacks.EarlyStopping(patience=5)
    on_accuracy = SmoothedEarlyStopping("val_accuracy", patience=5, restore_best_weights=False)
    return {
        "EarlyStopping of Keras": Watch(of_keras),
        "SmoothedEarlyStopping": Watch(SmoothedEarlyStopping(patience=5, restore_best_weights=False)),
        "SmoothedEarlyStopping, val_accuracy": Watch(on_accuracy),
        "DivergenceStop": Watch(DivergenceStop(verbose=0)),
        "DivergenceStop, val_loss": Watch(DivergenceStop(monitor="val_loss", verbose=0)),
    }


class Curves(keras.callbacks.Callback):
    """Records the accuracy on the test images, and the share of the wrong training labels that is predicted."""

    def __init__(self, network, data):
        super().__init__()
        self.network, self.data, self.curves = network, data, {}
        self.wrong = data.given != data.correct
        self.images = np.concatenate([data.x_test, data.x[self.wrong]])

    def on_epoch_end(self, epoch, logs=None):
        predicted = self.network.predict(self.images, batch_size=500, verbose=0).argmax(-1)
        test, train = np.split(predicted, [len(self.data.x_test)])
        found = {"test": (test == self.data.y_test).mean()}
        if len(train):
            found["remembered"] = (train == self.data.given[self.wrong]).mean()
            found["corrected"] = (train == self.data.correct[self.wrong]).mean()
        for name, value in {**found, **{key: logs[key] for key in ("loss", "val_loss", "val_accuracy")}}.items():
            self.curves.setdefault(name, []).append(round(float(value), 4))


def run(data, method, strength, epochs, seed):
    """Trains one network, and returns its curves and the decisions of the watching callbacks."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    shape = data.x.shape[1:]
    augmentation, smoothing = METHODS[method][0](strength, len(shape) == 3, seed)
    trained = network(shape, strength if method == "Dropout" else 0)
    model = RegularizedModel(trained, augmentation) if augmentation else trained
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if smoothing:
        loss = LabelSmoothingCrossentropy(smoothing, from_logits=True)
    rate = strength if METHODS[method][0] is plain and method != "Dropout" else digits.LEARNING_RATE
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    watching, curves, start = watches(), Curves(trained, data), time.perf_counter()
    model.fit(
        data.x, data.given, batch_size=digits.BATCH, epochs=epochs, verbose=0,
        validation_data=(data.x_val, data.given_val), callbacks=[curves, *watching.values()],
    )  # fmt: skip
    stops = {name: watch.decision(epochs) for name, watch in watching.items()}
    return {**curves.curves, "stops": stops, "seconds": round(time.perf_counter() - start, 1)}


# %% [markdown]
# `--choose` trains with each strength on another split, with 40 % of the labels wrong. `STRENGTHS` has those with the
# highest accuracy after the last epoch.
#
# Each run is saved when it is finished. If you start the program again, finished runs are not repeated.


# %%
CHOICE = [(TUNING, ("symmetric", 40))]


def train_all(features, settings, cases, plan, path):
    """Trains what is missing in the file at `path`, and returns all its runs."""
    done = resume(path, settings)
    for seed, (kind, percent) in cases:
        data = split(features, settings["labeled"], percent, kind, seed)
        for method, strength in plan:
            key = {"method": method, "strength": strength, "kind": kind, "wrong": percent, "seed": seed}
            if any(all(one[name] == value for name, value in key.items()) for one in done["runs"]):
                continue
            found = run(data, method, strength, settings["epochs"], seed)
            done["runs"].append({**key, **found})
            save(done, path)
            result = f"test {found['test'][-1]:.3f} (best {max(found['test']):.3f})  {found['seconds']:.0f} s"
            print(f"{percent:2} % {kind:9} seed {seed}  {method} {strength}: {result}", flush=True)
    return done


# %%
def main(features=None, labeled=None, seeds=3, epochs=None, only=None, out="runs", choose=False, smoke=False):
    name = "features" if features else "digits"
    labeled = labeled or (8000 if features else 500)
    epochs = epochs or (20 if features else 60)
    chosen = {method: strength for method, strength in STRENGTHS[name].items() if only is None or method in only}
    cases, plan = [(seed, condition) for condition in CONDITIONS for seed in range(seeds)], list(chosen.items())
    if choose:
        cases, plan = CHOICE, [(method, strength) for method in chosen for strength in METHODS[method][1]]
    if smoke:
        cases, plan, epochs, labeled = cases[:1], [plan[0], plan[-1]], 2, 100
    path = pathlib.Path(out) / f"wrong_labels_{name}{'_choice' if choose else ''}{'_smoke' if smoke else ''}.json"
    if smoke:
        path.unlink(missing_ok=True)
    settings = {"data": name, "labeled": labeled, "tested": TESTED, "epochs": epochs}
    settings["backend"] = keras.backend.backend()
    done = train_all(features, settings, cases, plan, path)
    print(choice(done) if choose else tables(done))
    if not choose:
        draw([done], path.with_suffix(".png"))
        print(f"Results and figure: {path} and .png")
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Which methods remember wrong labels")
    parser.add_argument("--features", help="an .npz with x_train, y_train, x_test, y_test (default: digits)")
    parser.add_argument("--labeled", type=int, help="number of labeled images (default: 500 digits or 8000 features)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: 60 on digits, 20 on features")
    parser.add_argument("--only", nargs="+", choices=METHODS, help="only these methods")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), help="default: tensorflow")
    parser.add_argument("--choose", action="store_true", help="try all strengths, on other splits")
    parser.add_argument("--out", default="runs", help="folder for the results and the figure (default: runs)")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds")
    given = vars(parser.parse_args())
    del given["backend"]  # set above, before Keras was imported
    main(**given)
