# %% [markdown]
# # Does smoothing help early stopping?
#
# A validation curve is the true loss plus noise. Early stopping sees only the noisy curve, but its quality depends on
# the true loss: how much higher is the true loss of the restored weights than the lowest one? Simulated curves answer
# this, since their true loss is known. Keras' `EarlyStopping` and `SmoothedEarlyStopping` watch the same thousand
# curves of five families with the same patience.

# %%
import argparse
import json
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import keras_reg

EPOCHS = 200
CURVES = 1000
PATIENCE = 10


# %% [markdown]
# The families. Each curve falls by `drop` at a random speed. The standard deviation of its noise is between 0.5 % and
# 20 % of `drop`.
#
# - *overfits*: falls, then rises slowly; normal noise.
# - *levels off*: falls to a constant; noise with heavy tails (Student's t with 3 degrees of freedom).
# - *falls twice*: has a plateau before a second fall; normal noise.
# - *crawls*: falls like 1 / t; the noise of neighboring epochs is correlated (0.5).
# - *rough*: overfits, but half of the variance of the noise is part of the true loss, so the weights of a lucky epoch
#   are slightly better. This family favors the raw curve.


# %%
def overfitting(rng, t, drop, speed):
    turn = speed * rng.uniform(2, 4)
    return drop * np.exp(-t / speed) + drop / speed * np.exp(-turn / speed) * t


def leveling_off(rng, t, drop, speed):
    return drop * np.exp(-t / speed)


def falling_twice(rng, t, drop, speed):
    second = rng.uniform(20, 60)
    first = drop / 2 * np.exp(-2 * t / speed)
    return first + drop / 2 / (1 + np.exp((t - second) / 3)) + drop / 1000 * np.maximum(t - second - 20, 0)


def crawling(rng, t, drop, speed):
    return drop / (1 + t / speed) + drop / 2000 * t


def normal(rng, count):
    return rng.normal(size=count)


def heavy_tailed(rng, count):
    return rng.standard_t(3, size=count) / np.sqrt(3)


def correlated(rng, count):
    noise = rng.normal(size=count)
    for epoch in range(1, count):
        noise[epoch] = 0.5 * noise[epoch - 1] + np.sqrt(0.75) * noise[epoch]
    return noise


FAMILIES = {  # name: the true curve, its noise, and the share of the variance that is real
    "overfits": (overfitting, normal, 0.0),
    "levels off": (leveling_off, heavy_tailed, 0.0),
    "falls twice": (falling_twice, normal, 0.0),
    "crawls": (crawling, correlated, 0.0),
    "rough": (overfitting, normal, 0.5),
}


def make_curve(rng, family):
    """The true and the observed loss of every epoch."""
    shape, noise, real = FAMILIES[family]
    drop, speed = rng.uniform(0.5, 2), rng.uniform(5, 25)
    size = drop * 10 ** rng.uniform(np.log10(0.005), np.log10(0.2))
    true = rng.uniform(0.1, 0.5) + shape(rng, np.arange(EPOCHS), drop, speed)
    if real:
        true = true + np.sqrt(real) * size * rng.normal(size=EPOCHS)
    return true, true + np.sqrt(1 - real) * size * noise(rng, EPOCHS)


# %% [markdown]
# The callbacks are the real ones, but the model is a stub. Its only weight is the index of the epoch, so the restored
# weights show from which epoch they come.


# %%
METHODS = {
    "Keras EarlyStopping": lambda patience: keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True),
    **{
        f"smoothed, {smoothing}": lambda patience, smoothing=smoothing: keras_reg.callbacks.SmoothedEarlyStopping(
            smoothing=smoothing, patience=patience
        )
        for smoothing in ("ema", "mean", "median")
    },
}


class Counter:
    """The part of a model that a callback uses."""

    optimizer, stop_training, epoch = None, False, 0

    def get_weights(self):
        return [np.array(self.epoch)]

    def set_weights(self, weights):
        self.epoch = int(weights[0])


def train(callback, curve):
    """Runs the callback on a curve. Returns the restored epoch and the number of trained epochs."""
    model = Counter()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(curve):
        model.epoch = epoch
        callback.on_epoch_end(epoch, {"val_loss": value})
        if model.stop_training:
            break
    callback.on_train_end()
    return model.epoch, epoch + 1


def simulate(curves, patience, methods, seed=0):
    """`{method: {family: array (curves, 3)}}`: excess true loss, distance from the minimum to the stop, epochs."""
    results = {method: {family: [] for family in FAMILIES} for method in methods}
    rng = np.random.default_rng(seed)
    for index in range(curves):
        family = list(FAMILIES)[index % len(FAMILIES)]
        true, observed = make_curve(rng, family)
        for method in methods:
            restored, epochs = train(METHODS[method](patience), observed)
            figures = (true[restored] - true.min(), abs(epochs - 1 - true.argmin()), epochs)
            results[method][family].append(figures)
    return {m: {f: np.array(rows) for f, rows in families.items()} for m, families in results.items()}


# %%
def overall(families):
    return np.concatenate(list(families.values()))


def table(results, patience):
    """Means over all curves, and the mean difference of the excess loss from the first method, paired by curve."""
    width = max(map(len, METHODS))
    head = f"{'patience ' + str(patience):{width}} {'excess loss':>11} {'difference':>17} {'distance':>9} {'epochs':>7}"
    lines = [head + "".join(f"{family:>13}" for family in FAMILIES)]
    first = overall(next(iter(results.values())))[:, 0]
    for method, families in results.items():
        excess, distance, epochs = overall(families).mean(0)
        saved = overall(families)[:, 0] - first
        difference = f"{saved.mean():8.4f} ± {saved.std(ddof=1) / np.sqrt(len(saved)):.4f}" if saved.any() else ""
        line = f"{method:{width}} {excess:11.4f} {difference:>17} {distance:9.1f} {epochs:7.1f}"
        lines.append(line + "".join(f"{families[family][:, 0].mean():13.4f}" for family in FAMILIES))
    return "\n".join(lines)


# %% [markdown]
# With equal patience, each kind of smoothing restores better weights. It also trains longer, since a smoothed curve
# keeps falling during bad epochs, which resets the patience. Therefore, Keras' callback also gets more patience, until
# it trains for as many epochs as the moving average. This explains most of the difference. The rest favors the moving
# average on curves that overfit or level off, and the raw curve on rough curves, where a lucky epoch really is better.


# %%
def same_epochs(curves, epochs, patience, seed=0):
    """Patience and results of Keras' callback with the least patience that trains for at least `epochs` on average."""
    name = "Keras EarlyStopping"
    while True:
        patience += 1
        results = simulate(curves, patience, [name], seed)[name]
        if overall(results)[:, 2].mean() >= epochs or patience >= EPOCHS:
            return patience, results


# %%
COLORS = ("#888888", "#d0402b", "#e08a4a", "#3b6ea5")


def draw(results, patience, path):
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2))
    draw_curve(axes[0], patience)
    draw_families(axes[1], results[patience], patience)
    draw_trade(axes[2], results)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_curve(axis, patience):
    """Draws the first curve that overfits on which the two methods stop at least ten epochs apart."""
    methods = ("Keras EarlyStopping", "smoothed, ema")
    for seed in range(CURVES):
        true, observed = make_curve(np.random.default_rng(seed), "overfits")
        callbacks = {method: METHODS[method](patience) for method in methods}
        ends = {method: train(callback, observed) for method, callback in callbacks.items()}
        if abs(ends[methods[0]][1] - ends[methods[1]][1]) >= 10:
            break
    shown = slice(0, int(1.6 * max(stop for _, stop in ends.values())))
    axis.plot(observed[shown], color="#bbbbbb", lw=1, label="validation loss")
    axis.plot(callbacks["smoothed, ema"].smoothed, color=COLORS[1], lw=1.2, label="smoothed")
    axis.plot(true[shown], color="black", lw=1, label="true loss")
    for (method, (restored, epochs)), color in zip(ends.items(), COLORS, strict=False):
        axis.plot(restored, true[restored], "o", color=color, label=f"{method}: epoch {restored + 1}")
        axis.axvline(epochs - 1, color=color, ls=":", lw=1.2)
    axis.set(xlabel="epoch (dotted: the stop)", ylabel="loss", title="A curve on which they differ")
    axis.legend(frameon=False, fontsize=8)


def draw_families(axis, results, patience):
    width = 0.8 / len(results)
    for index, (method, families) in enumerate(results.items()):
        heights = [rows[:, 0].mean() for rows in families.values()]
        axis.bar(np.arange(len(heights)) + index * width, heights, width, label=method, color=COLORS[index])
    axis.set_xticks(np.arange(len(FAMILIES)) + 1.5 * width, FAMILIES, fontsize=8)
    axis.set(ylabel="mean excess true loss", title=f"Restored weights, patience {patience}")
    axis.legend(frameon=False, fontsize=8)


def draw_trade(axis, results):
    for index, method in enumerate(METHODS):
        means = [overall(by_method[method]).mean(0) for by_method in results.values()]
        axis.plot([m[2] for m in means], [m[0] for m in means], "o-", color=COLORS[index], label=method)
    axis.set(xlabel="epochs trained", ylabel="mean excess true loss", yscale="log")
    axis.set_title(f"Loss and epochs for patience {', '.join(map(str, results))}")
    axis.legend(frameon=False, fontsize=8)


# %%
def figures_of(results, more):
    """Means over all curves as plain numbers: per patience and method, and for Keras' callback with as many epochs."""
    found = {}
    for patience, methods in results.items():
        first = overall(next(iter(methods.values())))[:, 0]
        found[str(patience)] = rows = {}
        for method, families in methods.items():
            excess, distance, epochs = overall(families).mean(0)
            saved = overall(families)[:, 0] - first
            error = saved.std(ddof=1) / np.sqrt(len(saved))
            values = {
                "excess": excess,
                "distance": distance,
                "epochs": epochs,
                "difference": saved.mean(),
                "error": error,
            }
            rows[method] = {name: round(float(value), 4) for name, value in values.items()}
        if patience in more:
            rows["Keras EarlyStopping, as many epochs"] = {
                "excess": round(float(overall(more[patience])[:, 0].mean()), 4)
            }
    return found


def main(curves=CURVES, patiences=(5, PATIENCE, 20), out="runs", compare_epochs=True, smoke=False):
    """Prints the tables and draws the figure. Returns `{patience: {method: {family: array (curves, 3)}}}`."""
    if smoke:
        curves, patiences, compare_epochs = 50, (PATIENCE,), False
    print(
        f"{curves} curves of {len(FAMILIES)} families, at most {EPOCHS} epochs. Means over all curves. The columns on"
    )
    print("the right show the excess loss per family. Distance: epochs between the true minimum and the stop.\n")
    results = {patience: simulate(curves, patience, list(METHODS)) for patience in patiences}
    for patience in patiences:
        print(table(results[patience], patience) + "\n")
    more = {}
    if compare_epochs:
        for patience in patiences:
            epochs = overall(results[patience]["smoothed, ema"])[:, 2].mean()
            longer, more[patience] = same_epochs(curves, epochs, patience)
            print(f"Keras' callback with as many epochs as the moving average with patience {patience}:")
            print(table({"Keras EarlyStopping": more[patience]}, longer) + "\n")
    path = pathlib.Path(out) / "early_stopping_simulation.png"
    draw(results, PATIENCE if PATIENCE in results else patiences[0], path)
    saved = {"curves": curves, "patience": figures_of(results, more)}
    (path.parent / "early_stopping_simulation.json").write_text(json.dumps(saved, indent=1) + "\n")
    print(f"Figure: {path}, numbers beside it")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--curves", type=int, default=CURVES)
    parser.add_argument("--out", default="runs", help="folder for the figure and the numbers (default: runs)")
    parser.add_argument("--smoke", action="store_true", help="a quick run with fifty curves")
    given = parser.parse_args()
    main(given.curves, out=given.out, smoke=given.smoke)
