"""Losses of labels that come late: cross-entropies whose weights make up for negatives that are not final.

With p = P(y = 1 | x), and d = P(y = 1, but not yet when the sample left first | x), the stream of samples has positives
and negatives in shares that are known functions of p and d; each weight is the true share over the stream's:

==========  ==================  ============================  =============
stream      weight of a 1       weight of a 0                 source
==========  ==================  ============================  =============
``fnw``     1 + p               (1 + p) (1 − p)               Ktena et al., RecSys 2019, eq. 9
``es_dfm``  1 + d               (1 + d) (1 − p) / (1 − p + d) Yang et al., AAAI 2021, eq. 12
``defer``   p / (p − d/2)       (1 − p) / (1 − p + d/2)       Gu et al., KDD 2021, eq. 9
==========  ==================  ============================  =============

``fnw`` is ``es_dfm`` with d = p. p is the model's own prediction, through which no gradient flows. ES-DFM and DEFER
learn d (and the share of real negatives) with networks of their own; here d = s·p, where s is the share of the training
part's positives that came late. That is exact where the delay of an event does not depend on its features, and saves
two networks whose labels are themselves late; where it does depend on them, predictions are biased by as much as s is
wrong.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

Kind = Literal["fnw", "es_dfm", "defer"]
_SMALLEST = 1e-6


@keras.saving.register_keras_serializable(package="onehull")
class LateCrossentropy(keras.losses.Loss):
    """Cross-entropy of a binary label of which the samples of a stream hold early and late versions.

    Args:
        kind: how samples leave the stream; see the module.
        late_share: s, the share of positives that come after their sample has left first, 0 … 1. For ``fnw`` it is 1.
        **kwargs: of `keras.losses.Loss`.

    Raises:
        ValueError: `late_share` is no share.
    """

    def __init__(self, kind: Kind, late_share: float = 1.0, name: str = "late_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not 0.0 <= late_share <= 1.0:
            raise ValueError(f"late_share must be in 0 … 1. Received {late_share!r}.")
        self.kind, self.late_share = kind, 1.0 if kind == "fnw" else late_share

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Losses ``(B,)`` of ``(B, 1)``."""
        p = ops.stop_gradient(ops.clip(ops.cast(y_pred, "float32"), _SMALLEST, 1.0 - _SMALLEST))
        positive, negative = stream_weights(self.kind, p, self.late_share * p)
        label = ops.cast(y_true, "float32")
        weight = ops.squeeze(label * positive + (1.0 - label) * negative, axis=-1)
        return weight * keras.losses.binary_crossentropy(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "kind": self.kind, "late_share": self.late_share}


def stream_weights(kind: Kind, p: Any, d: Any) -> tuple[Any, Any]:
    """Weights of a 1 and of a 0.

    Args:
        kind: how samples leave the stream.
        p: probability of the event.
        d: probability of the event, but after the sample has left first; at most p.
    """
    if kind == "defer":
        return p / (p - 0.5 * d), (1.0 - p) / (1.0 - p + 0.5 * d)
    return 1.0 + d, (1.0 + d) * (1.0 - p) / (1.0 - p + d)
