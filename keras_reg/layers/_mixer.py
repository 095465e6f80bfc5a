import dataclasses
from typing import Any, Literal

from keras_reg._dtypes import is_float
from keras_reg._strength import Strength, plain, serialize
from keras_reg._typing import Config, DataFormat, Kind, StrengthLike
from keras_reg._validation import check_choice, fail
from keras_reg.layers._batch._boxes import check_boxes, spec_of_concatenated
from keras_reg.layers._batch._content import map_arrays
from keras_reg.layers._batch._fill_values import check_num_classes
from keras_reg.layers._batch._shapes import spec_of
from keras_reg.layers._batch._terms import map_labels
from keras_reg.layers._batch_augmentation import BatchAugmentation, selected
from keras_reg.layers._pixels._beta import BetaQuantile
from keras_reg.layers._pixels._inside import check_inside, mix_here_or_inside
from keras_reg.layers._pixels._mixing import COLUMNS, check_inputs, check_labels, label_spec, make_plan, mask_spec


class Mixer(BatchAugmentation):
    """Base class of `MixUp` and `CutMix`, which differ in whether the partner is blended or pasted into the image."""

    cuts = False
    kinds = ("image", "video", "signal")

    _columns = COLUMNS
    _mixes = True
    _calls_hooks = False
    _works_on_host = True
    _one_pass = True

    def __init__(
        self,
        alpha: StrengthLike,
        rate: StrengthLike,
        num_classes: int | None,
        mode: Literal["sample", "batch"],
        kind: Kind,
        data_format: DataFormat,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        num_classes = check_num_classes(num_classes, low=1)
        mode = check_choice("mode", mode, ("sample", "batch"))
        super().__init__(rate, kind, data_format, seed, **kwargs)
        self.set_strength("alpha", alpha, open_low=True)
        self.num_classes, self.mode = num_classes, mode

    @property
    def quantile(self):
        """The inverse distribution function of lambda. Its table is cached between calls."""
        return BetaQuantile(plain(self.alpha), moves=isinstance(self.alpha, Strength))

    @property
    def keeps_integers(self):
        return self.cuts

    @property
    def _any_rank(self):
        """Samples of any shape can be blended. Boxes need pixel positions."""
        return not self.cuts

    def _keeps_integers_of(self, batch):
        return self.keeps_integers or batch.inside is not None

    def _check_values(self, batch):
        if batch.inside is None and not self.cuts:
            check_inputs(batch, type(self).__name__)

    def _check(self, batch):
        if batch.inside is not None:
            check_inside(batch, self)
        check_labels(batch, self.num_classes, not self.cuts, self.data_format, type(self).__name__)
        if batch.boxes is not None:
            check_boxes(batch, cuts=self.cuts, layer=type(self).__name__)
        if batch.keypoints is not None:
            shape = tuple(batch.keypoints.shape)
            fail(f"`{type(self).__name__}` cannot mix keypoints, since a point belongs to one image.", keypoints=shape)

    def draw(self, batch, u, select=None):
        """Draws which images are mixed, and the share that each keeps (lambda)."""
        numbers = u[:1, 1] if self.mode == "batch" else u[:, 1]
        alpha = self.strength("alpha", batch) if isinstance(self.alpha, Strength) else None
        kept = self.quantile(numbers, batch.ops, alpha)
        return selected(u[:, 0], self.strength("rate", batch), select), kept

    def _transform(self, batch, u, noise=None, select=None):
        drawing, u, select = self._drawing(batch, u, select)
        chosen, kept = self.draw(drawing, u, select)

        def plan_for(size):
            return batch.place.sent(make_plan(drawing, u, chosen, kept, self.cuts, self.data_format, size))

        return mix_here_or_inside(batch, u, plan_for, self)

    def _output_spec(self, batch):
        return mixed_spec(super()._output_spec(batch), batch, self)

    def get_config(self) -> Config:
        own = {"alpha": serialize(self.alpha), "num_classes": self.num_classes, "mode": self.mode}
        return {**super().get_config(), **own}


def mixed_spec(spec, batch, layer):
    """Returns the specification of a mixed batch. `layer` is a mixer or a `RandomChoice` of mixers."""

    def label(array):
        if batch.keeps_ids:
            return array
        return label_spec(array, batch, layer.num_classes, not layer.keeps_integers, layer.data_format)

    def mask(array):
        return mask_spec(array, layer.num_classes, not layer.keeps_integers, layer.data_format)

    return dataclasses.replace(
        map_labels(spec, label),
        sample_weights=map_arrays(lambda w: w if is_float(w) else spec_of(w.shape, "float32"), batch.sample_weights),
        masks=map_arrays(mask, batch.masks),
        boxes=None if batch.boxes is None else spec_of_concatenated(batch.boxes),
    )
