"""The random state of a training, so that a resumed training continues with the next draw."""

import json
import pathlib

from keras import ops

from keras_reg._backend import RandomSource, process_random_state, random_sources, set_process_random_state
from keras_reg._validation import fail, is_integer

POSITION = "position.json"


class KeepsPosition:
    """A layer whose `RandomSource` in `random` is saved with its number of draws in a `.keras` file.

    Weight files do not include it. After loading, a seeded layer continues with the next draw. A layer without a seed
    starts a new stream, like the layers of Keras.
    """

    def _set_seed(self, seed):
        """Stores the seed and starts the stream of random numbers; after `super().__init__`."""
        self.seed = seed
        self.random = RandomSource(seed, type(self).__name__)
        self.generator = self.random.generator

    def __reduce__(self):
        load, arguments = super().__reduce__()
        return _load_copy, (load, arguments)

    def save_assets(self, folder):
        pathlib.Path(folder, POSITION).write_text(json.dumps(self.random.position()))

    def load_assets(self, folder):
        path = pathlib.Path(folder or "", POSITION)
        if not folder or not path.is_file():
            return  # a file of an earlier version
        position = json.loads(path.read_text())
        names = ("eager", "compiled")
        numbers = [position.get(name) for name in names] if isinstance(position, dict) else [None]
        if not all(is_integer(number) and 0 <= number < 2**32 for number in numbers):
            fail(f"The file must contain the numbers of draws of `{self.name}`: {names}.", position=position)
        self.random.move_to(*numbers)


def _load_copy(load, arguments):
    """Loads a pickled layer. Other processes may have received the same copy."""
    layer = load(*arguments)
    for source in random_sources(layer.variables):
        source.made_in = None
    return layer


def random_state(model):
    """Returns the random state of a model and of the process, as a nest of lists and NumPy arrays.

    The seeds of Keras' layers are variables but not weights, so files of weights do not contain them.
    """
    seeds = _seeds(model)
    sources = [{"entropy": source.entropy, **source.position()} for source in random_sources(seeds)]
    values = [ops.convert_to_numpy(seed.value) for seed in seeds]
    return {"seeds": values, "sources": sources, "process": process_random_state()}


def set_random_state(model, state):
    """Restores what `random_state` returned for the same model, in this or another process."""
    seeds, values = _seeds(model), state["seeds"]
    sources = random_sources(seeds)
    if len(seeds) != len(values) or len(sources) != len(state["sources"]):
        fail(
            f"The model must have as many seeds as the saved one: {len(values)}, {len(state['sources'])} of them in "
            "layers of keras_reg.",
            seeds=len(seeds),
            seeds_of_keras_reg=len(sources),
        )
    for variable, value in zip(seeds, values, strict=True):
        variable.assign(value)
    for source, kept in zip(sources, state["sources"], strict=True):
        source.move_to(**kept)
    set_process_random_state(state["process"])


def _seeds(model):
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
