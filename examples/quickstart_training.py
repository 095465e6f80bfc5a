"""Trains one network of the quickstart, with any part of the recipe, and measures it on the test images."""

import collections
import concurrent.futures
import multiprocessing
import os
import time

import digits
import example_data
import keras
import numpy as np

import keras_reg

PARTS = ("shift", "mix", "smoothing")
# Chosen by quickstart_choice.py: how often the recipe mixes, its learning rate, and the best one of the plain network.
MIXED, LEARNING_RATE = 0.5, 3e-3
RECIPE = {"learning_rate": LEARNING_RATE, "decay": True}
PLAIN = {"few": {"learning_rate": 3e-3, "decay": False}, "wrong": {"learning_rate": 3e-4, "decay": False}}
TEST_BATCH = 500
# Images, the share of wrong labels, epochs, and epochs from one test to the next.
Task = collections.namedtuple("Task", "labeled wrong epochs every")


def load(source, task, seed):
    """The images of a task as `Digits`, whatever they show."""
    if source is None:
        return digits.load(task.labeled, seed, task.wrong)
    data = example_data.load(source, task.labeled, seed)
    return digits.Digits(data.x_train, data.y_train, data.x_val, data.y_val, data.y_train)


def train_all(jobs, processes=1):
    """Trains several networks, in as many processes, and yields (number, what was measured) of each finished one.

    Args:
        jobs: (source, task, parts, seed, arguments of `train`) of each network.
        processes: Number of processes, each with one thread: training so small a network is not faster with more.
    """
    if processes == 1:
        yield from ((number, train_one(*job)) for number, job in enumerate(jobs))
        return
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read by the frameworks of the new processes
    context = multiprocessing.get_context("spawn")  # frameworks may hang after a fork
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        numbers = {pool.submit(train_one, *job): number for number, job in enumerate(jobs)}
        yield from ((numbers[done], done.result()) for done in concurrent.futures.as_completed(numbers))


def train_one(source, task, parts, seed, arguments):
    data = load(source, task, seed)
    return {**train(data, task, parts, seed, **arguments), "images": len(data.x_test)}


def train(data, task, parts, seed, learning_rate, decay=False, **strengths):
    """Trains a network with `parts` of the recipe, of which () is the plain network. Returns what was measured."""
    start = time.perf_counter()
    steps = -(-len(data.x_train) // digits.BATCH)
    tested = [epoch for epoch in range(1, task.epochs + 1) if epoch % task.every == 0 or epoch == task.epochs]
    network, model = compiled(data, parts, seed, learning_rate, task.epochs * steps if decay else None, **strengths)
    curve = model.fit(
        data.x_train,
        data.y_train,
        batch_size=digits.BATCH,
        epochs=task.epochs,
        steps_per_epoch=steps,  # otherwise, TensorFlow makes two iterators per epoch
        validation_data=(data.x_test, data.y_test),
        validation_freq=tested,
        validation_batch_size=TEST_BATCH,
        validation_steps=-(-len(data.x_test) // TEST_BATCH),
        verbose=0,
    ).history["val_accuracy"]
    return {
        "epochs": tested,
        "test": [round(float(value), 5) for value in curve],
        "shifted": accuracy(network, digits.shifted(data.x_test), data.y_test),
        "occluded": accuracy(network, digits.occluded(data.x_test), data.y_test),
        "remembered": remembered(network, data),
        "seconds": round(time.perf_counter() - start, 2),
    }


def compiled(data, parts, seed, learning_rate, decay_steps=None, smoothing=digits.SMOOTHING, rate=MIXED):
    """(the plain network, what is trained: the same network, or a `RegularizedModel` around it)."""
    keras.utils.set_random_seed(seed)
    shape, classes = data.x_train.shape[1:], int(max(data.y_train.max(), data.y_test.max())) + 1
    network = model = digits.network(shape, classes)
    if {"shift", "mix"} & set(parts):
        # One pixel of 8, as many in proportion in larger images.
        padding = max(1, min(shape[:2]) // 8)
        augmentation = digits.augmentation(seed, padding, "shift" in parts, "mix" in parts, rate=rate)
        model = keras_reg.training.RegularizedModel(network, augmentation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if "smoothing" in parts:
        loss = keras_reg.losses.LabelSmoothingCrossentropy(smoothing, from_logits=True)
    # Several steps in one call save a tenth of the time. PyTorch has no such calls.
    steps = 1 if keras.backend.backend() == "torch" else 5
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps) if decay_steps else learning_rate
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"], steps_per_execution=steps)
    if parts:
        return network, model
    network = anew(model, (shape, classes, decay_steps and (learning_rate, decay_steps)))
    return network, network


READY = {}  # plain networks, by what they are compiled for


def anew(network, key):
    """Returns a network that is compiled for the same, as new as this one. That saves the time of compiling it."""
    network.optimizer.build(network.trainable_variables)
    ready = READY.setdefault(key, network)
    values = network.variables + network.optimizer.variables
    for variable, value in zip(ready.variables + ready.optimizer.variables, values, strict=True):
        variable.assign(value)
    return ready


def predicted(network, images):
    # Called eagerly: `predict` would be compiled for each network, and TensorFlow warns of that.
    batches = (images[start : start + TEST_BATCH] for start in range(0, len(images), TEST_BATCH))
    logits = [keras.ops.convert_to_numpy(network(batch, training=False)) for batch in batches]
    return np.concatenate(logits).argmax(axis=-1)


def accuracy(network, images, labels):
    return round(float((predicted(network, images) == labels).mean()), 5)


def remembered(network, data):
    """The share of wrong training labels that the network gives back, or `None` if no label is wrong."""
    wrong = data.y_train != data.clean
    return accuracy(network, data.x_train[wrong], data.y_train[wrong]) if wrong.any() else None


class Progress:
    """Shows each finished run and the time that is left for the others.

    Args:
        tasks: The task of each run.
    """

    def __init__(self, tasks):
        self.total = sum(self._work(task) for task in tasks)
        self.done, self.start = 0, time.perf_counter()

    @staticmethod
    def _work(task):
        """Training steps, and about as much time as six of them between two epochs."""
        return task.epochs * (-(-task.labeled // digits.BATCH) + 6)

    def end(self, task, line):
        self.done += self._work(task)
        print(f"  {line}   {self._left()}", flush=True)

    def _left(self):
        seconds, share = time.perf_counter() - self.start, self.done / self.total
        return f"about {seconds * (1 - share) / share:.0f} s left" if share < 1 else f"{seconds:.0f} s in all"


def summary(values, digits=1):
    """Mean and standard deviation over the seeds, in percent."""
    values = 100 * np.asarray(values, float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=len(values) > 1):.{digits}f} %"
