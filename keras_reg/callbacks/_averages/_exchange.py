"""The exchange of the trained weights of a model with their average."""

from keras import ops

from keras_reg.callbacks._averages._running_average import put


class Exchange:
    """Puts the average into the model and keeps the trained weights meanwhile.

    Args:
        running: The `RunningAverage`.
    """

    def __init__(self, running):
        self.running = running
        self.trained = None  # the trained weights while the average is in the model

    def put_average(self):
        if self.trained is None:
            self.trained = [ops.copy(weight) for weight in self.running.weights]
            put(self.running.averages, self.running.weights)

    def put_trained(self):
        if self.trained is not None:
            put(self.trained, self.running.weights)
            self.trained = None
