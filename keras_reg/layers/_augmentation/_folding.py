from keras_reg.layers._batch._folding import Folding, specs_of
from keras_reg.layers._batch._kinds import SHAPES


class AugmentationFolding:
    """Which samples a layer takes, and how videos and signals become images for it and its checks."""

    _frames_as = "channels"  # how a video is an image; see `Folding`

    @property
    def _any_rank(self):
        """Whether it takes samples of any shape, and several inputs: where it does not touch the images."""
        return not self._overrides("transform_images")

    def _all_kinds(self):
        return tuple(SHAPES) if self._any_rank else self.kinds

    @property
    def _folds(self):
        """Whether videos and signals come to this layer as images."""
        return not self._any_rank

    def _folding(self, batch):
        """How a batch becomes one of images, or `None` where it stays what it is."""
        if batch.kind not in ("video", "signal") or not self._folds:
            return None
        return Folding(batch, self.data_format, self._frames_as)

    def _infer(self, batch):
        """`_inference` of a batch of any kind."""
        changes = type(self)._inference is not AugmentationFolding._inference
        folding = self._folding(batch) if changes else None
        return self._inference(batch) if folding is None else folding.unfold(self._inference(folding.fold()))

    def _check_as_images(self, batch, training=True):
        """Refuses what this layer cannot do rightly; called at trace time, also for symbolic inputs."""
        folding = self._folding(batch)
        batch = batch if folding is None else Folding(specs_of(batch), self.data_format, self._frames_as).fold()
        return self._check_inference(batch) if training is False else self._check(batch)

    def _inference(self, batch):
        """What the layer does to the batch when it is not training: the identity, in the dtype that training gives."""
        return self._cast_images(batch)

    def _check_inference(self, batch):
        """Likewise where the layer is not training: nothing, where it is the identity then."""
