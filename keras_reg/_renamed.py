"""Names that other libraries or earlier versions use: an error says which name to use here."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from keras_reg._validation import fail

Function = TypeVar("Function", bound=Callable[..., Any])


def renamed(**names: str) -> Callable[[Function], Function]:
    """Decorates a function that refuses each keyword in `names`, and names the argument that takes its place.

    Python and Keras would only say that the keyword is unknown.
    """

    def decorate(function):
        @functools.wraps(function)
        def checked(*args, **kwargs):
            refuse_renamed(kwargs, names)
            return function(*args, **kwargs)

        # Keras reads the arguments of `__init__` without looking behind decorators.
        checked.__signature__ = inspect.signature(function)
        return checked

    return decorate


def refuse_renamed(kwargs: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Refuses each keyword in `names`, and names the argument that takes its place."""
    for name in names.keys() & kwargs.keys():
        fail(f"There is no argument `{name}`. Use `{names[name]}`.", **{name: kwargs[name]})


def renamed_in(module, **names):
    """A `__getattr__` for `module` that does the same for its classes and functions."""

    def getattr_of_module(name):
        hint = f" Use `{names[name]}`." if name in names else ""
        raise AttributeError(f"Module `{module}` has no attribute `{name}`.{hint}")

    return getattr_of_module
