"""No two batches share random numbers by accident, and one seed repeats them: in every place where data are read.

Each batch is the same, so its result is a fingerprint of the numbers that were drawn for it, and a repeat is two equal
results. With about 60 bits in a fingerprint an honest repeat does not happen.
"""

import concurrent.futures
import multiprocessing

import keras
import numpy as np
import pytest
from harness import BACKEND, jit, only, run_in_fresh_process, to_numpy
from layers import worker_of_randomness

from keras_reg.layers import MixUp, Pipeline, RandomApply, RandomChoice, RandomErasing

IMAGES = np.random.default_rng(0).random((4, 6, 5, 1), "float32")
LABELS = np.eye(4, dtype="float32")
BATCHES = 200


def mixer(seed=1):
    return MixUp(1.0, seed=seed)


def composite(seed=1):
    return Pipeline([RandomApply(RandomErasing(1.0, fill="channel_noise"), 0.9), MixUp(1.0)], seed=seed)


def prints_of(results):
    """A fingerprint of each result."""
    return [b"".join(np.ascontiguousarray(to_numpy(x)).tobytes() for x in keras.tree.flatten(r)) for r in results]


def repeats(results):
    prints = prints_of(results)
    return len(prints) - len(set(prints))


def mapped(function, parallel, form="tuple", batches=BATCHES, **options):
    """`function` over one batch `batches` times, in a tf.data graph, as NumPy."""
    import tensorflow as tf

    element = (IMAGES, LABELS) if form == "tuple" else {"images": IMAGES, "labels": LABELS}
    dataset = tf.data.Dataset.from_tensors(element).repeat(batches)
    mapper = (lambda x, y: function((x, y))) if form == "tuple" else function
    return list(dataset.map(mapper, num_parallel_calls=parallel, **options).as_numpy_iterator())


# tf.data.


@pytest.mark.parametrize("form", ["tuple", "dict"])
@pytest.mark.parametrize("parallel", [None, 8])
@pytest.mark.parametrize("make", [mixer, composite])
def test_no_two_batches_of_a_map_share_numbers(make, parallel, form):
    assert repeats(mapped(make(), parallel, form)) == 0


@pytest.mark.parametrize("make", [mixer, composite])
def test_two_epochs_over_one_map_do_not_repeat_and_two_maps_of_one_layer_neither(make):
    import tensorflow as tf

    layer = make()
    datasets = [tf.data.Dataset.from_tensors((IMAGES, LABELS)).repeat(40).map(lambda x, y: layer(x, y), 4)] * 2
    datasets.append(tf.data.Dataset.from_tensors((IMAGES, LABELS)).repeat(40).map(lambda x, y: layer(x, y), 4))
    assert repeats([batch for dataset in datasets for batch in dataset]) == 0


@pytest.mark.parametrize("make", [mixer, composite])
def test_a_map_without_parallel_calls_repeats_from_its_seed(make):
    one, two = (prints_of(mapped(make(seed=5), None, batches=20)) for _ in range(2))
    assert one == two
    assert one != prints_of(mapped(make(seed=6), None, batches=20))


def with_index(layer, parallel, batches=60):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensors((IMAGES, LABELS)).repeat(batches).enumerate()
    dataset = dataset.map(lambda i, xy: layer(xy, index=i), num_parallel_calls=parallel)
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("make", [mixer, composite])
def test_with_the_index_a_parallel_map_repeats_from_its_seed(make):
    """Whatever the number of calls at a time, and whatever was drawn before."""
    first = make(seed=7)
    with_index(first, 8, batches=3)
    one, two, three = (prints_of(with_index(layer, n)) for layer, n in ((first, 8), (make(seed=7), None), (first, 3)))
    assert one == two == three
    assert len(set(one)) == len(one)
    assert one != prints_of(with_index(make(seed=8), 8))


def test_the_index_says_the_same_eagerly():
    """On TensorFlow the same numbers, too; other backends draw eagerly by generators of their own."""
    layer = mixer(seed=7)
    eager = [layer(IMAGES, LABELS, index=i) for i in range(5)]
    assert prints_of(eager) == prints_of([mixer(seed=7)(IMAGES, LABELS, index=i) for i in range(5)])
    assert len(set(prints_of(eager))) == 5
    if BACKEND == "tensorflow":
        found = with_index(mixer(seed=7), 4, batches=5)
        for a, b in zip(eager, found, strict=True):
            np.testing.assert_allclose(to_numpy(a[1]), b[1], rtol=1e-6)


def test_a_strength_that_moves_is_seen_by_a_map_that_was_traced_before():
    import tensorflow as tf

    from keras_reg import Strength

    layer = MixUp(1.0, rate=Strength(1.0), seed=9)
    (rate,) = [v for v in layer.non_trainable_variables if v.name == "rate"]
    dataset = tf.data.Dataset.from_tensors((IMAGES, LABELS)).repeat(3).map(lambda x, y: layer(x, y))
    for value, mixes in ((1.0, True), (0.0, False), (1.0, True)):
        rate.assign(value)
        assert all((np.asarray(y) != LABELS).any() == mixes for _, y in dataset)


# Threads, Grain, worker processes.


def test_threads_do_not_share_numbers():
    from concurrent.futures import ThreadPoolExecutor

    layer = composite()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: layer((IMAGES, LABELS)), range(BATCHES)))
    assert repeats(results) == 0


def test_grain_threads_do_not_share_numbers():
    grain = pytest.importorskip("grain")
    layer = composite()
    dataset = grain.MapDataset.range(BATCHES).map(lambda _: layer((IMAGES, LABELS)))
    options = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)
    assert repeats(list(dataset.to_iter_dataset(options))) == 0


def test_grain_with_the_index_repeats_from_the_seed():
    grain = pytest.importorskip("grain")

    def read():
        layer = composite(seed=3)
        dataset = grain.MapDataset.range(40).map(lambda i: layer((IMAGES, LABELS), index=i))
        return prints_of(dataset.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)))

    one, two = read(), read()
    assert one == two and len(set(one)) == 40


def pictures_of_direct_calls(seed=1):
    """Those of `worker_of_randomness.Photos`, drawn by another layer. In a thread, where NumPy draws as in a worker."""
    layer = worker_of_randomness.turning_and_changing(seed)

    def call():
        return [layer(worker_of_randomness.PHOTOS, index=i) for i in range(worker_of_randomness.COUNT)]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pictures = pool.submit(call).result()
    assert repeats(pictures) == 0 and all((batch != worker_of_randomness.PHOTOS).any() for batch in pictures)
    return pictures


def test_grain_threads_give_the_pictures_of_direct_calls():
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.range(worker_of_randomness.COUNT).map(worker_of_randomness.Photos().__getitem__)
    found = list(dataset.to_iter_dataset(grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)))
    assert prints_of(found) == prints_of(pictures_of_direct_calls())
    assert prints_of(found) != prints_of(pictures_of_direct_calls(seed=2))


WORKERS = """
import pickle, sys
import numpy as np, keras, keras_reg
from keras_reg.layers import MixUp, Pipeline, RandomApply, RandomErasing

IMAGES = np.random.default_rng(0).random((4, 6, 5, 1), "float32")
LABELS = np.eye(4, dtype="float32")
layer = Pipeline([RandomApply(RandomErasing(1.0, fill="channel_noise"), 0.9), MixUp(1.0)], seed=1)

class Batches:
    def __len__(self):
        return 48
    def __getitem__(self, i):
        if i >= 48:
            raise IndexError
        images, labels = layer((IMAGES, LABELS))
        assert isinstance(images, np.ndarray), type(images)
        return np.concatenate([images.ravel(), labels.ravel()])

class Indexed(Batches):
    def __getitem__(self, i):
        if i >= 48:
            raise IndexError
        images, labels = layer((IMAGES, LABELS), index=i)
        return np.concatenate([np.ravel(images), np.ravel(labels)])

def distinct(rows):
    return len({np.asarray(row, "float32").tobytes() for row in rows})
"""


@pytest.mark.slow
@only("torch")
def test_workers_of_a_torch_data_loader_do_not_share_numbers():
    """Forked and spawned, over two epochs."""
    printed = run_in_fresh_process(
        WORKERS
        + """
if __name__ == "__main__":
    from torch.utils.data import DataLoader
    loader = DataLoader(Batches(), batch_size=None, num_workers=3)
    rows = [np.asarray(row) for _ in range(2) for row in loader]
    print(len(rows), distinct(rows))
    import torch
    indexed = [[np.asarray(row) for row in DataLoader(Indexed(), batch_size=None, num_workers=n)] for n in (2, 3)]
    print(all((a == b).all() for a, b in zip(*indexed, strict=True)), distinct(indexed[0]))
    from layers import worker_of_randomness as worker
    spawned = {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True}
    loader = DataLoader(worker.Batches(), batch_size=None, **spawned)
    rows = [np.asarray(row) for _ in range(2) for row in loader]
    print(len(rows), distinct(rows))
"""
    )
    assert printed.split() == ["96", "96", "True", "48", "20", "20"]


@pytest.mark.slow
@only("torch")
def test_workers_of_a_torch_data_loader_give_the_pictures_of_direct_calls():
    """Forked and spawned."""
    printed = run_in_fresh_process(
        """
        from torch.utils.data import DataLoader
        from layers import worker_of_randomness as worker

        if __name__ == "__main__":
            for context, count in (("fork", 2), ("spawn", 1)):
                options = {"num_workers": count, "multiprocessing_context": context}
                print(worker.digest(DataLoader(worker.Photos(), batch_size=None, **options)))
        """
    )
    assert printed.split() == [worker_of_randomness.digest(pictures_of_direct_calls())] * 2


@pytest.mark.slow
def test_processes_do_not_share_numbers():
    """Two spawned processes, each with a copy of the layer that was pickled, and the parent."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        rows = [row for part in pool.map(worker_of_randomness.draw, [worker_of_randomness.layer] * 4) for row in part]
    rows += worker_of_randomness.draw(worker_of_randomness.layer)
    assert len(rows) == len({row.tobytes() for row in rows}) == 5 * worker_of_randomness.COUNT


@pytest.mark.slow
def test_a_layer_that_another_process_makes_follows_its_seed():
    """In a process for a training, and in a process of a pool for data, which is a daemon."""
    make, context = worker_of_randomness.draw_from_seed, multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        arrays, tensors = pool.submit(make), pool.submit(make, as_tensors=True)
        with concurrent.futures.ThreadPoolExecutor(1) as thread:  # where NumPy draws, too
            np.testing.assert_array_equal(arrays.result(), thread.submit(make).result())
        np.testing.assert_array_equal(tensors.result(), make(as_tensors=True))
    with context.Pool(1) as pool:
        assert (pool.apply(make) != arrays.result()).any(axis=-1).all()


@pytest.mark.slow
@only("torch", why="The place of the numbers is the same on all.")
def test_a_process_draws_the_same_in_each_run_of_a_program():
    """The first process of a program has the same name in each run."""
    context, found = multiprocessing.get_context("spawn"), []
    for name in ("loader-1", "loader-1", "loader-2"):
        ours, theirs = context.Pipe()
        arguments = (theirs, worker_of_randomness.layer)
        context.Process(target=worker_of_randomness.send, args=arguments, name=name).start()
        found.append(ours)
    first, again, second = (connection.recv() for connection in found)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any(axis=-1).all()


# Layers among themselves.


def test_layers_of_different_classes_with_one_seed_are_independent():
    """One seed for all is what people write; erasing and mixing must not go together because of it."""
    images = np.ones((2000, 4, 4, 1), "float32") * np.arange(1, 2001, dtype="float32")[:, None, None, None]
    erased = (to_numpy(RandomErasing(0.5, seed=3)(images)) == 0).any(axis=(1, 2, 3))
    mixed = (to_numpy(MixUp(1.0, rate=0.5, seed=3)(images)) != images).any(axis=(1, 2, 3))
    assert abs(np.corrcoef(erased, mixed)[0, 1]) < 4 / np.sqrt(2000)


def test_layers_without_a_seed_follow_keras_set_random_seed():
    def draw():
        keras.utils.set_random_seed(11)
        return prints_of([MixUp(1.0)((IMAGES, LABELS)), RandomChoice([MixUp(1.0)])((IMAGES, LABELS))])

    assert draw() == draw()
    assert prints_of([MixUp(1.0)((IMAGES, LABELS))]) != prints_of([MixUp(1.0)((IMAGES, LABELS))])


@only("tensorflow")
def test_replicas_do_not_share_numbers():
    printed = run_in_fresh_process(
        """
        import numpy as np, tensorflow as tf, keras
        devices = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
        import keras_reg
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            layer = keras_reg.layers.MixUp(1.0, seed=1)
        x = np.random.default_rng(0).random((4, 6, 5, 1), "float32")

        @tf.function
        def step():
            return strategy.run(lambda: layer(x))

        found = [np.asarray(v).tobytes() for _ in range(20) for v in strategy.experimental_local_results(step())]
        print(len(found), len(set(found)))
        """
    )
    assert printed.split() == ["40", "40"]


@only("tensorflow", "jax", why="PyTorch draws in eager code even in a compiled function")
@pytest.mark.parametrize("fill", ["channel_noise", "pixel_noise"])
def test_a_compiler_draws_the_same_numbers(fill):
    """TensorFlow's functions select another generator under XLA unless it is named."""
    layer = RandomErasing(1.0, fill=fill, seed=3)
    draw = jit(lambda images: layer(images, index=2), layer, xla=True)
    np.testing.assert_allclose(to_numpy(draw(IMAGES)), to_numpy(layer(IMAGES, index=2)), rtol=1e-6, atol=1e-6)


@only("jax")
def test_any_generator_that_jax_is_set_to_serves():
    import jax

    before = jax.config.jax_default_prng_impl
    try:
        jax.config.update("jax_default_prng_impl", "rbg")
        layer = mixer()
        assert repeats([layer((IMAGES, LABELS)) for _ in range(5)]) == 0
        assert repeats([layer((IMAGES, LABELS), index=i) for i in range(5)]) == 0
    finally:
        jax.config.update("jax_default_prng_impl", before)


def printed_by_workers_of_grain(source, lines):
    """What a program prints that maps a dataset in two worker processes of Grain. `source` makes it, as a map."""
    pytest.importorskip("grain")
    return run_in_fresh_process(
        f"""
        import grain, numpy as np
        from absl import flags
        from layers import worker_of_randomness as worker

        if __name__ == "__main__":
            flags.FLAGS(["grain"])  # which its workers read
            dataset = {source}.to_iter_dataset()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=2))
            {lines}
        """
    )


@only("jax", why="The place of the numbers is the same on all.")
def test_worker_processes_of_grain_do_not_share_numbers():
    printed = printed_by_workers_of_grain(
        "grain.MapDataset.range(40).map(lambda _: worker.draw(worker.layer, 1)[0])",
        "rows = [np.array(row) for row in dataset]; print(len(rows), len({row.tobytes() for row in rows}))",
    )
    assert printed.split() == ["40", "40"]


@only("jax", why="The place of the numbers is the same on all.")
def test_worker_processes_of_grain_give_the_pictures_of_direct_calls():
    printed = printed_by_workers_of_grain(
        "grain.MapDataset.range(worker.COUNT).map(worker.Photos().__getitem__)", "print(worker.digest(dataset))"
    )
    assert printed.split() == [worker_of_randomness.digest(pictures_of_direct_calls())]
