"""Pure functions compiled by XLA."""


class Programs:
    """Compiled programs, kept by what they depend on besides their arguments.

    A copy of the object that holds them, in this process or another, starts with none.
    """

    def __init__(self):
        self._programs = {}

    def __deepcopy__(self, memo):
        return Programs()

    def __reduce__(self):
        return Programs, ()

    def run(self, place, function, key, *arguments):
        """function(place, *arguments), where the arguments and the result are nests of tensors and `None`."""
        key = (place.name, key)
        if key not in self._programs:
            self._programs[key] = place.compiled(function)
        return self._programs[key](*arguments)
