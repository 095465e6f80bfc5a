# %% [markdown]
# # Random search that stops diverging trials
#
# Learning rate and weight penalty act by orders of magnitude, so the search draws them from a logarithmic scale. It
# draws them at random instead of from a grid, so each trial tries a new value of the parameter that matters. The first
# round covers a large range with a few epochs per trial. The second round covers the neighborhood of the best trial
# with more epochs.
#
# Many trials of the first round diverge. `DivergenceStop` checks the loss after every batch and stops a trial if the
# loss exceeds three times its first value or is not finite. Optuna counts the trial as pruned.

# %%
import argparse
import json
import math
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import optuna
from example_data import load

import keras_reg

BOX = {"learning_rate": (1e-6, 1e2), "l2": (1e-8, 1e1)}
BATCH = 32


# %%
def network(shape, classes, l2):
    penalty = keras.regularizers.L2(l2)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(64, "relu", kernel_regularizer=penalty),
            keras.layers.Dense(classes, kernel_regularizer=penalty),
        ]
    )


# %% [markdown]
# One trial. `stop.diverged` and `stop.stop_reason` report whether and why it was stopped.


# %%
def objective(trial, data, box, epochs):
    keras.utils.clear_session()
    keras.utils.set_random_seed(trial.number)
    chosen = {name: trial.suggest_float(name, *limits, log=True) for name, limits in box.items()}
    model = network(data.x_train.shape[1:], data.classes, chosen["l2"])
    model.compile(
        keras.optimizers.SGD(chosen["learning_rate"], momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    stop = keras_reg.callbacks.DivergenceStop(factor=3, per="step", verbose=0)
    model.fit(data.x_train, data.y_train, batch_size=BATCH, epochs=epochs, callbacks=[stop], verbose=0)
    trial.set_user_attr("batches", int(model.optimizer.iterations))
    if stop.diverged:
        raise optuna.TrialPruned(stop.stop_reason)
    return model.evaluate(data.x_val, data.y_val, batch_size=512, verbose=0, return_dict=True)["accuracy"]


def search(data, box, trials, epochs, seed):
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed))
    study.optimize(lambda trial: objective(trial, data, box, epochs), n_trials=trials)
    return study


def around(best, box, share=0.25):
    """A smaller range around the best point, with this share of each range in orders of magnitude."""
    smaller = {}
    for name, (low, high) in box.items():
        reach = (high / low) ** (share / 2)
        smaller[name] = (max(low, best[name] / reach), min(high, best[name] * reach))
    return smaller


# %%
def report(name, study, box, epochs, batches_per_epoch):
    """Prints what a study found, and returns its numbers."""
    pruned = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.PRUNED]
    ran = sum(trial.user_attrs["batches"] for trial in study.trials)
    budget = len(study.trials) * epochs * batches_per_epoch
    limits = ", ".join(f"{key} {low:.1e} to {high:.1e}" for key, (low, high) in box.items())
    print(f"{name}: {len(study.trials)} trials of {epochs} epochs, {limits}")
    print(f"  {len(pruned)} pruned, {100 * (1 - ran / budget):.0f} % of all batches saved")
    done = [trial for trial in study.trials if trial not in pruned]
    for trial in sorted(done, key=lambda trial: -trial.value)[:3]:
        values = "  ".join(f"{key} {value:.2e}" for key, value in trial.params.items())
        print(f"  {100 * trial.value:6.2f} %  {values}")
    best = max(trial.value for trial in done)
    return {"trials": len(study.trials), "stopped": len(pruned), "saved": 1 - ran / budget, "best": best}


def draw(studies, boxes, path):
    figure, axes = plt.subplots(1, len(studies), figsize=(5.5 * len(studies), 4.4), squeeze=False)
    for axis, (name, study), box in zip(axes[0], studies.items(), boxes, strict=True):
        done = [trial for trial in study.trials if trial.value is not None]
        lost = [trial for trial in study.trials if trial.value is None]
        for trials, style in ((lost, {"marker": "x", "color": "#999999", "label": "diverged"}), (done, {})):
            x, y = ([trial.params[key] for trial in trials] for key in box)
            if trials is done:
                style = {"c": [100 * trial.value for trial in done], "edgecolors": "black", "linewidths": 0.4}
            points = axis.scatter(x, y, **style)
        figure.colorbar(points, ax=axis, label="validation accuracy (%)")
        axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="L2 penalty", title=name)
        axis.set(xlim=box["learning_rate"], ylim=box["l2"])
        if lost:
            axis.legend(loc="lower left")
    figure.tight_layout()
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


# %%
def main(source=None, trials=(40, 20), epochs=(4, 12), seed=0, out="runs", smoke=False):
    """Searches in two rounds, prints and draws the results, and returns the two studies."""
    if smoke:
        trials, epochs = (6, 2), (1, 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = load(source, labeled=320 if smoke else None, seed=seed)
    batches = math.ceil(len(data.x_train) / BATCH)
    coarse = search(data, BOX, trials[0], epochs[0], seed)
    found = {"backend": keras.backend.backend()}
    found["coarse"] = report("coarse", coarse, BOX, epochs[0], batches)
    box = around(coarse.best_params, BOX)
    fine = search(data, box, trials[1], epochs[1], seed + 1)
    found["fine"] = report("fine", fine, box, epochs[1], batches)
    path = pathlib.Path(out) / "random_search.png"
    draw({"coarse": coarse, "fine": fine}, (BOX, box), path)
    (path.parent / "random_search.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"Figure: {path}, numbers beside it")
    return coarse, fine


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="image folder, .npz with x_train ... y_test, or tfds:NAME (default: digits)")
    parser.add_argument("--out", default="runs", help="folder for the figure and the numbers (default: runs)")
    parser.add_argument("--smoke", action="store_true", help="a quick run with a few short trials")
    given = parser.parse_args()
    main(given.data, out=given.out, smoke=given.smoke)
