import inspect

import keras

from keras_reg import _backend
from keras_reg._overrides import LOSS, is_of_hub, overrides


class OwnLoss(_backend.OneScopeLoss, keras.Model):  # type: ignore[misc, valid-type]
    """A model that uses the network's own computation of losses and metrics, if the network overrides that of Keras.

    In that case, the network is compiled too, and its `compute_loss`, `compute_metrics` and metrics are used.
    """

    has_own_loss = False  # whether the network overrides `compile`, or how its loss or metrics are computed
    has_own_train_step = False  # whether the network overrides `train_step`

    def read_steps(self, network):
        """Notes which steps a network overrides."""
        self.has_own_train_step = overrides(network, "train_step")
        self.has_own_loss = not self.has_own_train_step and (
            overrides(network, *LOSS) or (overrides(network, "compile") and not is_of_hub(network, "compile"))
        )

    def compile_like_network(self):
        """Compiles this model as its network has been compiled, with the same optimizer, but without losses.

        The empty set of metrics makes Keras call `compute_metrics` before the first step on JAX, where all metrics must
        exist by then. Keras 3.10 would read a list as one entry per output.
        """
        network = self.model
        has_metrics = network.loss is not None or any(not getattr(found, "built", True) for found in network.metrics)
        super().compile(
            optimizer=network.optimizer,
            metrics=frozenset() if has_metrics else None,
            run_eagerly=network.run_eagerly,
            steps_per_execution=network.steps_per_execution,
            jit_compile=network.jit_compile,
            auto_scale_loss=False,  # the network has done so if its dtype needs it
        )
        self._has_computed_loss = False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not self.has_own_loss:
            return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        self._has_computed_loss = True
        return loss_of(self.model, x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        if not self.has_own_loss:
            return super().compute_metrics(x, y, y_pred, sample_weight)
        self.build_metrics_of_network(x, y, y_pred, sample_weight)
        results = self._without_stale_loss(self.model.compute_metrics(x, y, y_pred, sample_weight))
        own = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**own, **results} if overrides(self.model, "compute_metrics") else own

    def build_metrics_of_network(self, x, y, y_pred, sample_weight):
        """Builds the metrics of the losses of the network, if no loss has been computed since `compile`."""
        first = next(iter(keras.tree.flatten(y_pred)))
        if self._has_computed_loss or self.model.loss is None or _backend.is_concrete(first):
            return
        self._has_computed_loss = True
        loss_of(self.model, x, y, y_pred, sample_weight, training=False)

    @property
    def metrics(self):
        if self.has_own_train_step:
            return self.model.metrics
        own = super().metrics
        if not self.has_own_loss or not self.compiled:
            return own
        listed = overrides(self.model, "metrics")  # then the only loss in the logs is that of the network, if any
        found = [*own[listed:], *self.model.metrics[0 if listed else 1 :]]
        return list({id(metric): metric for metric in found}.values())

    def reset_metrics(self):
        if self.has_own_loss or self.has_own_train_step:
            self.model.reset_metrics()
        super().reset_metrics()

    def get_metrics_result(self):
        if self.has_own_train_step:
            return self.model.get_metrics_result()
        results = super().get_metrics_result()
        if self.has_own_loss and overrides(self.model, "get_metrics_result"):
            results |= self._without_stale_loss(self.model.get_metrics_result())
        return results

    def _without_stale_loss(self, results):
        """Returns results of the network without its mean loss, which only its own training step updates."""
        stale = not overrides(self.model, "metrics")
        return {name: value for name, value in results.items() if not (stale and name == "loss")}


def loss_of(network, x, y, y_pred, sample_weight, training):
    """Calls `compute_loss` of a model as Keras does: overrides may lack `training`."""
    options = {"training": training} if "training" in inspect.signature(network.compute_loss).parameters else {}
    return network.compute_loss(x, y, y_pred, sample_weight, **options)
