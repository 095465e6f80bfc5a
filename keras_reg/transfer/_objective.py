"""What the models of a transfer are trained for: a loss that fits the labels, and metrics."""

import numpy as np
from keras import tree

from keras_reg._outputs import by_output, names_of_outputs
from keras_reg._validation import is_integer
from keras_reg.transfer._arguments import accuracy_of_logits, as_list, check_compile_arguments
from keras_reg.transfer._labels import check_batch, check_structure
from keras_reg.transfer._targets import check_loss, check_outputs, default_loss, targets_of


class Objective:
    """The loss, the metrics and the other arguments with which the models of a transfer are compiled.

    Args:
        parts: The `Assembly`.
        head: Number of classes, or layers.
        loss: As in `compile`; `None` chooses a crossentropy by the form of the labels.
        metrics: As in `compile`; `None` is the accuracy if `head` is a number of classes.
        compile_arguments: Dict of further arguments of `compile`.
    """

    def __init__(self, parts, head, loss, metrics, compile_arguments):
        self.model = parts.model
        self.is_chosen = loss is None
        self.is_one_logit = is_integer(head) and head == 1
        self.loss = default_loss("shares" if self.is_one_logit else "ids") if self.is_chosen else check_loss(loss)
        check_outputs(parts.head, self.loss)
        self.metrics = ["accuracy"] if metrics is None and is_integer(head) else as_list(metrics)
        self.compile_arguments = check_compile_arguments(compile_arguments)

    @property
    def targets(self):
        """What the losses expect of labels: a list with the `Target` of each output."""
        return targets_of(self.model, self.loss, self.is_chosen)

    def choose_loss(self, labels):
        """Chooses the loss by the form of some labels, if none was given."""
        if self.is_chosen and not self.is_one_logit and labels is not None:
            labels = (by_output(names_of_outputs(self.model), labels) or [labels])[0]
            one_hot = np.ndim(labels) == 2 and np.shape(labels)[-1] != 1
            loss = default_loss("distributions" if one_hot else "ids")
            self.loss = self.loss if type(self.loss) is type(loss) else loss

    def check_labels(self, name, labels):
        """Checks labels for an evaluation of the plain model, unless the user has compiled it with another loss.

        If the loss was chosen by the form of other labels, it is chosen anew.
        """
        if self.model.loss is not self.loss:
            return
        self.choose_loss(labels)
        if self.model.loss is not self.loss:
            self.compile_for_use(self.model.optimizer)
        check_structure(name, labels, self.model)
        check_batch(name, labels, self.targets)

    def compile(self, model, optimizer):
        """Compiles one of the models that share the weights."""
        arguments = {"metrics": self.metrics, **self.compile_arguments}
        if self.is_one_logit:
            for name in ("metrics", "weighted_metrics"):
                arguments[name] = tree.map_structure(accuracy_of_logits, arguments.get(name))
        model.compile(optimizer=optimizer, loss=self.loss, **arguments)

    def compile_for_use(self, optimizer):
        """Compiles the plain model for `evaluate` and for saving: Keras loads the file of a built optimizer only."""
        self.compile(self.model, type(optimizer).from_config(optimizer.get_config()))
        self.model.optimizer.build(self.model.trainable_variables)
