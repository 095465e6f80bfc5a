"""Measures the effect of every method of the package, each in a setting in which its purpose shows.

python examples/effects.py --backend jax --data cifar10 --json docs/results/effects.json --choose
python examples/effects.py --backend jax --data cifar10 --json docs/results/effects.json

The first command chooses learning rates and strengths on two splits of the data. The second one measures the chosen
ones on three other splits. Each finished run is saved at once, and a run in the file is not repeated.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

if __name__ == "__main__" and "--backend" in sys.argv:
    os.environ["KERAS_BACKEND"] = sys.argv[sys.argv.index("--backend") + 1]  # before Keras is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import effects_images
import effects_results
import keras
import numpy as np
from effects_methods import EFFECTS
from effects_recipes import PLAIN, Recipe
from effects_settings import DENSE, SETTINGS, data_of, perturbed, sample_weights
from saved_runs import write

import keras_reg

SEEDS, SPLITS_TO_CHOOSE = (0, 1, 2), (10, 11)
PUBLISHED = pathlib.Path(__file__).resolve().parents[1] / "docs" / "results" / "effects.json"


# One run.


class Interruption(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Raises an exception after the epoch in the middle."""

    def __init__(self, epochs):
        super().__init__()
        self.last = epochs // 2 - 1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.last:
            raise Interruption


def compiled(setting, recipe, rate, data, seed):
    """The network of a run, and the compiled model that trains it."""
    shape, classes = data.x_train.shape[1:], int(data.y_train.max()) + 1
    network = recipe.changed(setting.network(shape, classes, **recipe.parts))
    model = regularized(network, recipe, data.x_train, seed)
    steps = setting.epochs * -(-len(data.x_train) // setting.batch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps) if setting.cosine else rate
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if recipe.smoothing:
        loss = keras_reg.losses.LabelSmoothingCrossentropy(recipe.smoothing, from_logits=True)
    model.compile(recipe.optimizer(schedule, network), loss, metrics=["accuracy"])
    return network, model


def regularized(network, recipe, images, seed):
    """The model that trains the network with all parts of a recipe. Without any, it is the network itself."""
    steps, penalties = recipe.augmentation(), recipe.penalties()
    if not steps and not penalties and recipe.sharpness is None:
        return network
    for layer in steps:
        if isinstance(layer, keras_reg.layers.PCAColorJitter):
            layer.adapt(images)
    augmentation = keras_reg.layers.Pipeline(steps, seed=seed) if steps else None
    return keras_reg.training.RegularizedModel(
        network, augmentation, penalties, recipe.sharpness, mix_at=recipe.mix_at(network)
    )


def trained(setting, recipe, rate, data, seed, epochs):
    """The trained network, and its accuracies on the test images during training."""
    watched = {max(1, epochs * tenth // 10) for tenth in range(1, 11)}
    if not setting.cosine:
        watched |= set(range(max(1, epochs - 9), epochs + 1))
    keras.utils.set_random_seed(seed)
    network, model = compiled(setting, recipe, rate, data, seed)

    def fit(model, callbacks):
        test = data.x_test, data.y_test
        return model.fit(
            data.x_train, data.y_train, setting.batch, epochs, verbose=0, callbacks=callbacks,
            sample_weight=sample_weights(setting, data),
            validation_data=test, validation_batch_size=len(data.x_test), validation_freq=sorted(watched),
        ).history["val_accuracy"]  # fmt: skip

    if not recipe.interrupted:
        return network, fit(model, recipe.callbacks(epochs))
    with tempfile.TemporaryDirectory() as folder:
        try:
            fit(model, [*keras_reg.callbacks.persist([], folder), Interrupt(epochs)])
        except Interruption:
            network, model = compiled(setting, recipe, rate, data, seed)
        return network, fit(model, keras_reg.callbacks.persist([], folder))


def accuracy(network, images, labels):
    logits = keras.ops.convert_to_numpy(network(images, training=False))
    return 100 * float(np.mean(logits.argmax(-1) == labels))


def changed_tests(setting, network, data):
    """Accuracies on changed test images, and with changed kernels in the setting that has them."""
    found = effects_images.accuracies(lambda x: accuracy(network, x, data.y_test), setting.changes, data.x_test)
    if setting is SETTINGS[DENSE]:
        found["perturbed"] = np.mean([accuracy(noisy, data.x_test, data.y_test) for noisy in perturbed(network)])
    return found


def run(name, recipe, rate, seed, epochs, source):
    """The accuracies of one run in percent."""
    setting, start = SETTINGS[name], time.process_time()
    data = data_of(setting, seed, source)
    network, curve = trained(setting, recipe, rate, data, seed, epochs or setting.epochs)
    curve = 100 * np.array(curve)
    found = {"test": curve[-1], "best": curve.max(), "worst": curve[-10:].min()}
    found.update(changed_tests(setting, network, data))
    keras.backend.clear_session()
    found = {key: round(float(value), 3) for key, value in found.items()}
    return {**found, "cpu_seconds": round(time.process_time() - start, 1)}


# All runs.


class Results:
    """The finished runs in a JSON file, and those still to be made."""

    def __init__(self, path, source=None, epochs=None):
        self.path, self.source, self.epochs = path, source, epochs
        self.found = json.loads(path.read_text()) if path.exists() else {"rates": {}, "chosen": {}, "runs": {}}

    def save(self):
        self.found["backend"] = keras.backend.backend()
        write(json.dumps(self.found, indent=1, sort_keys=True) + "\n", self.path)

    def runs(self, setting, label, recipe, seeds, rate=None):
        """The runs of a recipe, which are made unless the file has them."""
        rate = rate or self.found["rates"][setting]
        done = self.found["runs"].setdefault(f"{setting} | {label} | {rate}", {})
        for seed in seeds:
            if str(seed) not in done:
                done[str(seed)] = run(setting, recipe, rate, seed, self.epochs, self.source)
                numbers = ", ".join(f"{key} {value}" for key, value in done[str(seed)].items())
                print(f"{setting}, {label}, {rate}, seed {seed}: {numbers}", flush=True)
                self.save()
        return [done[str(seed)] for seed in seeds]

    def choose_rate(self, setting, seeds):
        def mean(rate):
            return np.mean([one["test"] for one in self.runs(setting, PLAIN, Recipe(), seeds, rate)])

        if setting not in self.found["rates"]:
            self.found["rates"][setting] = max(SETTINGS[setting].rates, key=mean)

    def choose(self, effect, seeds):
        """Saves the labels of the best recipes: of the baseline and of the method."""

        def best(recipes):
            def mean(label):
                runs = self.runs(effect.setting, label, recipes[label], seeds)
                return np.mean([one[effect.measure] for one in runs])

            return next(iter(recipes)) if len(recipes) == 1 else max(recipes, key=mean)

        chosen = self.found["chosen"]
        chosen[effect.name] = chosen.get(effect.strength_of) or [best(effect.baseline), best(effect.candidates)]

    def measure(self, effect, seeds):
        baseline, chosen = self.found["chosen"][effect.name]
        self.runs(effect.setting, baseline, effect.baseline[baseline], seeds)
        self.runs(effect.setting, chosen, effect.candidates[chosen], seeds)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="choose learning rates and strengths, on other splits")
    parser.add_argument("--show", action="store_true", help="print the table and draw the figure, without training")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="some methods, such as MixUp")
    parser.add_argument("--data", help="cifar10, or an .npz of it, for the methods on colors (default: leave them out)")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("runs/effects.json"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/effects.png"), help="the figure")
    parser.add_argument("--smoke", action="store_true", help="two epochs and one seed")
    given = parser.parse_args(argv)
    results = Results(given.json, given.data, 2 if given.smoke else None)
    if not results.found["chosen"] and PUBLISHED.exists() and not given.choose:
        published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
        results.found.update({key: published[key] for key in ("rates", "chosen")})
    effects = [effect for effect in EFFECTS if given.only is None or effect.method in given.only]
    if not given.show:
        for effect in effects:
            if SETTINGS[effect.setting].colors and given.data is None:
                print(f"{effect.name} needs --data")
            elif given.choose:
                results.choose_rate(effect.setting, SPLITS_TO_CHOOSE)
                results.choose(effect, SPLITS_TO_CHOOSE)
                results.save()
            else:
                results.measure(effect, SEEDS[: 1 if given.smoke else None])
    rows = effects_results.rows(results.found, effects)
    print(effects_results.table(rows))
    if given.show:
        sentences = (f"{row['effect'].name}: {effects_results.sentence(row)}" for row in rows)
        print("", effects_results.baselines(results.found), *sentences, effects_results.elsewhere(), sep="\n\n")
    effects_results.draw(rows, given.out, results.found)
    return rows


if __name__ == "__main__":
    main()
