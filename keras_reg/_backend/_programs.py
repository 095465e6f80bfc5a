"""Pure functions compiled by XLA."""


class Programs:
    """A cache of compiled programs. The key holds everything that a program depends on besides its arguments.

    If the owner is copied or pickled, the copy starts with an empty cache.
    """

    def __init__(self):
        self._programs = {}

    def __deepcopy__(self, memo):
        return Programs()

    def __reduce__(self):
        return Programs, ()

    def run(self, place, function, key, *arguments):
        """Runs function(place, *arguments) as a program. Arguments and result are nests of tensors and `None`."""
        key = (place.name, key)
        if key not in self._programs:
            self._programs[key] = place.compiled(function)
        return self._programs[key](*arguments)
