from keras_reg.layers._batch._folding import Folding, specs_of
from keras_reg.layers._batch._kinds import SHAPES


class AugmentationFolding:
    """The kinds of samples that a layer accepts, and the conversion of videos and signals to images."""

    _frames_as = "channels"  # how a video becomes an image; see `Folding`

    @property
    def _any_rank(self):
        """Whether it accepts several inputs and samples of any shape. This is so if it does not change the images."""
        return not self._overrides("transform_images")

    def _all_kinds(self):
        return tuple(SHAPES) if self._any_rank else self.kinds

    @property
    def _folds(self):
        """Whether this layer processes videos and signals as images."""
        return not self._any_rank

    def _folding(self, batch):
        """Returns the `Folding` that converts a batch to images, or `None` if the batch is not converted."""
        leaves_images = self._mixes and batch.inside is not None
        if batch.kind not in ("video", "signal") or not self._folds or leaves_images:
            return None
        return Folding(batch, self.data_format, self._frames_as)

    def _infer(self, batch):
        """Runs `_inference` on a batch of any kind."""
        changes = type(self)._inference is not AugmentationFolding._inference
        folding = self._folding(batch) if changes else None
        return self._inference(batch) if folding is None else folding.unfold(self._inference(folding.fold()))

    def _check_as_images(self, batch, training=True):
        """Refuses a batch that this layer cannot process correctly. It runs at trace time and on symbolic inputs."""
        if training is not False:
            self._check_values(batch)
        folding = self._folding(batch)
        batch = batch if folding is None else Folding(specs_of(batch), self.data_format, self._frames_as).fold()
        return self._check_inference(batch) if training is False else self._check(batch)

    def _check_values(self, batch):
        """Refuses inputs that may be ids, if this layer computes with their values. `batch` is not cast yet."""

    def _inference(self, batch):
        """Processes a batch in inference. By default, this is the identity, with the same dtype as in training."""
        return self._cast_images(batch)

    def _check_inference(self, batch):
        """Refuses a batch that this layer cannot process correctly in inference. The identity accepts all batches."""
