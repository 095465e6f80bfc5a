"""Where all random numbers of a training stand, so that one that was interrupted goes on with the next draw."""

import json
import pathlib

from keras import ops

from keras_reg._backend import RandomSource, process_random_state, random_sources, set_process_random_state
from keras_reg._validation import fail, is_integer

POSITION = "position.json"


class KeepsPosition:
    """A layer with a `RandomSource` in `random`: a `.keras` file says how many draws were made, weight files do not.

    A seeded layer goes on there after loading. One without a seed starts a stream of its own, as layers of Keras do.
    """

    def _set_seed(self, seed):
        """Stores the seed and starts the stream of random numbers; after `super().__init__`."""
        self.seed = seed
        self.random = RandomSource(seed, type(self).__name__)
        self.generator = self.random.generator

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
            fail(f"The file must hold the numbers of draws of `{self.name}`: {names}.", position=position)
        self.random.move_to(*numbers)


def random_state(model):
    """Where the random numbers of a model stand, and those of the process: a nest of lists and NumPy arrays.

    The seeds of Keras' layers are variables, but no weights, so that no file of weights has them.
    """
    seeds = _seeds(model)
    sources = [{"entropy": source.entropy, **source.position()} for source in random_sources(seeds)]
    values = [ops.convert_to_numpy(seed.value) for seed in seeds]
    return {"seeds": values, "sources": sources, "process": process_random_state()}


def set_random_state(model, state):
    """Puts back what `random_state` returned for the same model, here or in another process."""
    seeds, values = _seeds(model), state["seeds"]
    sources = random_sources(seeds)
    if len(seeds) != len(values) or len(sources) != len(state["sources"]):
        fail(
            f"The model must have the random numbers that were saved: {len(values)} seeds, of which "
            f"{len(state['sources'])} are of layers of keras_reg.",
            seeds=len(seeds),
            of_keras_reg=len(sources),
        )
    for variable, value in zip(seeds, values, strict=True):
        variable.assign(value)
    for source, kept in zip(sources, state["sources"], strict=True):
        source.move_to(**kept)
    set_process_random_state(state["process"])


def _seeds(model):
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
