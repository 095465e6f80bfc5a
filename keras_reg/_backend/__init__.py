"""Everything that depends on the framework: where a batch lives, how it draws random numbers, and the train step."""

from keras_reg._backend._averages import move_towards
from keras_reg._backend._crossentropy import fused_crossentropy, times, weighted_sum
from keras_reg._backend._current import is_compiling, makes_no_values, not_compiled, outside_of_graphs
from keras_reg._backend._gradients import dense, gradients_at, no_gradients
from keras_reg._backend._inner_steps import OneScopeLoss, run_step_of
from keras_reg._backend._native import NATIVE, place_of
from keras_reg._backend._place import Place
from keras_reg._backend._process_state import (
    framework_seeded,
    process_random_state,
    same_random_numbers,
    set_process_random_state,
)
from keras_reg._backend._programs import Programs
from keras_reg._backend._random import RandomSource, fold, given_keys, normal, random_sources, seed_words, uniform
from keras_reg._backend._statistics import bucket, count, mean_of_replica, share_of_replica, sum_over_replicas
from keras_reg._backend._step import AugmentedStep, KeepsStateAfterErrors, is_seed, is_traced_apart
from keras_reg._backend._tensorflow import as_written
from keras_reg._backend._tensors import (
    from_foreign,
    is_concrete,
    is_dense,
    is_tensor,
    least_of,
    number_of,
)
from keras_reg._backend._train_functions import admit_optimizer_variables, call_train_function, followed_step

__all__ = [
    "NATIVE",
    "AugmentedStep",
    "KeepsStateAfterErrors",
    "OneScopeLoss",
    "Place",
    "Programs",
    "RandomSource",
    "admit_optimizer_variables",
    "as_written",
    "bucket",
    "call_train_function",
    "count",
    "dense",
    "fold",
    "followed_step",
    "framework_seeded",
    "from_foreign",
    "fused_crossentropy",
    "given_keys",
    "gradients_at",
    "is_compiling",
    "is_concrete",
    "is_dense",
    "is_seed",
    "is_tensor",
    "is_traced_apart",
    "least_of",
    "makes_no_values",
    "mean_of_replica",
    "move_towards",
    "no_gradients",
    "normal",
    "not_compiled",
    "number_of",
    "outside_of_graphs",
    "place_of",
    "process_random_state",
    "random_sources",
    "run_step_of",
    "same_random_numbers",
    "seed_words",
    "set_process_random_state",
    "share_of_replica",
    "sum_over_replicas",
    "times",
    "uniform",
    "weighted_sum",
]
