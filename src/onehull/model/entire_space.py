"""Losses on the entire space, for a task that has labels only where others happened (buy, where there was a click).

``product``  ESMM; Ma et al., "Entire Space Multi-Task Model", SIGIR 2018
``ips``      ESCM² with inverse propensities; Wang et al., SIGIR 2022
``dr``       ESCM², doubly robust

Shapes: ``B`` batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import keras
import tensorflow as tf

from onehull.model.attached import attached
from onehull.model.joint_loss import JointLoss, RowLosses
from onehull.model.labels import Labels

Kind = Literal["product", "ips", "dr"]


@keras.saving.register_keras_serializable(package="onehull")
class EntireSpaceLoss(JointLoss):
    """The loss of a binary task that is observed only where its ancestors are 1, over all rows.

    The task predicts r = P(task | ancestors); its ancestors predict o₁ = P(first), o₂ = P(second | first), …. The joint
    label is 0 where an ancestor's label is 0, and the task's own where all of them are 1; elsewhere it is not known,
    and the row has no loss. With the joint log loss G = BCE(joint label, o₁ · o₂ · … · r), a row's loss is

    - ``product``: G. Its gradient reaches all factors, as in the paper.
    - ``ips``: ``risk_weight · R + global_weight · G`` with R = ℓ / ô in the space and 0 outside of it, where ℓ is the
      log loss of r, and ô = max(o₁ · o₂ · …, ``propensity_floor``) without a gradient.
    - ``dr``: as ``ips`` with R = ê + (ℓ − ê) / ô + (ℓ − ê)² / ô in the space and ê outside of it, where ê is the loss
      that `WithImputation` imputes.

    The mean is over all rows whose joint label is known, as the paper divides by the number of impressions; PaddleRec's
    code divides by the number of clicks, which depends on the batch. Everything is computed from log
    probabilities, which Keras finds behind the sigmoids of `BinaryHead`: a probability of 1e-30 gives a finite loss and
    a gradient. The floor holds before anything is scaled, so no row counts more than 1 / floor times.

    In ``dr``, each network learns from its own term: ê from the squared error, r from the rest. The paper minimises the
    sum over both, where the squared error draws r towards 0.5, whose loss is the same for both labels. As ê is no
    function of r, the gradient of R at r is that of ``ips``; the imputation changes the value that is reported, and
    teaches the representation which rows are hard.

    Args:
        ancestors: binary tasks that must be 1 for the label to exist, the first step first.
        kind: ``product``, ``ips`` or ``dr``.
        risk_weight: λ of R, beside the weight that the task has in the model.
        global_weight: λ of G for ``ips`` and ``dr``; PaddleRec's code weighs R and G alike.
        propensity_floor: smallest ô.
        self_normalised: divide R's weights 1 / ô by their mean over the batch's rows (SNIPS): less variance, some bias.
        **kwargs: of `keras.losses.Loss`.

    Raises:
        ValueError: there is no ancestor, or an argument is out of its range.
    """

    def __init__(
        self,
        ancestors: Sequence[str],
        kind: Kind = "product",
        risk_weight: float = 1.0,
        global_weight: float = 1.0,
        propensity_floor: float = 0.05,
        self_normalised: bool = False,
        name: str = "entire_space_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.ancestors, self.kind = tuple(ancestors), kind
        self.risk_weight, self.global_weight = risk_weight, global_weight
        self.propensity_floor, self.self_normalised = propensity_floor, self_normalised
        if not self.ancestors:
            raise ValueError("ancestors must name the tasks that the label depends on. Received none.")
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(Kind)))}. Received {kind!r}.")
        if not 0 < propensity_floor <= 1:
            raise ValueError(f"propensity_floor must be above 0 and at most 1. Received {propensity_floor!r}.")

    def rows(self, task: str, labels: Mapping[str, Labels], predictions: Mapping[str, tf.Tensor]) -> RowLosses:
        """The task's loss of each row, see `JointLoss.rows`.

        Raises:
            ValueError: an ancestor has no loss of its own, and so no labels; or ``dr`` without `WithImputation`.
        """
        absent = [name for name in self.ancestors if name not in labels]
        if absent:
            rule = f"loss[{task!r}] needs the labels of its ancestors {list(self.ancestors)}"
            raise ValueError(f"{rule}. Missing: {absent}. Give each of them a loss in compile(loss={{...}}).")
        space = read_space([labels[name] for name in self.ancestors])
        own = labels[task]
        labelled_B = space.inside_B & own.present_B
        known_B = space.outside_B | labelled_B
        label_B = _flat(own.values)
        joint_B = tf.where(labelled_B, label_B, tf.zeros_like(label_B))
        chain = [predictions[name] for name in self.ancestors]
        losses_B = joint_log_loss(joint_B, [*chain, predictions[task]])
        if self.kind != "product":
            risk_B = self._risk(label_B, labelled_B, known_B, chain, predictions[task])
            losses_B = self.risk_weight * risk_B + self.global_weight * losses_B
        return RowLosses(losses_B, known_B)

    def _risk(
        self, label_B: tf.Tensor, labelled_B: tf.Tensor, known_B: tf.Tensor, chain: Sequence[tf.Tensor], own: tf.Tensor
    ) -> tf.Tensor:
        """R of each row."""
        loss_B = -(label_B * log_yes(own) + (1.0 - label_B) * log_no(own))
        propensity_B = tf.exp(tf.add_n([log_yes(probability) for probability in chain]))
        propensity_B = tf.maximum(tf.stop_gradient(propensity_B), self.propensity_floor)
        inverse_B = tf.where(labelled_B, 1.0 / propensity_B, 0.0)
        if self.self_normalised:
            rows = tf.reduce_sum(tf.cast(known_B, tf.float32))
            inverse_B *= tf.math.divide_no_nan(rows, tf.reduce_sum(inverse_B))
        if self.kind == "ips":
            return inverse_B * loss_B
        imputed_B = _flat(attached(own, "imputed_loss", "WithImputation"))
        given_B = tf.stop_gradient(imputed_B)
        error_B = tf.square(tf.stop_gradient(loss_B) - imputed_B)
        return given_B + inverse_B * (loss_B - given_B) + inverse_B * error_B

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {
            "ancestors": list(self.ancestors), "kind": self.kind, "risk_weight": self.risk_weight,
            "global_weight": self.global_weight, "propensity_floor": self.propensity_floor,
            "self_normalised": self.self_normalised,
        }  # fmt: skip
        return {**super().get_config(), **own}


class Space(NamedTuple):
    """Rows ``(B,)`` that are known to be in a task's space, and rows that are known to be outside of it."""

    inside_B: tf.Tensor
    outside_B: tf.Tensor


def read_space(ancestors: Sequence[Labels]) -> Space:
    """In the space are rows where every ancestor is 1; outside of it, rows where one is 0."""
    inside, outside = [], []
    for labels in ancestors:
        positive_B = _flat(labels.values) > 0.5
        inside.append(labels.present_B & positive_B)
        outside.append(labels.present_B & ~positive_B)
    return Space(tf.reduce_all(tf.stack(inside), axis=0), tf.reduce_any(tf.stack(outside), axis=0))


def joint_log_loss(label_B: tf.Tensor, probabilities: Sequence[tf.Tensor]) -> tf.Tensor:
    """Log loss ``(B,)`` of a label and the product of probabilities ``(B, 1)``.

    1 − p₁p₂… is the sum over the steps of "all before it, but not this one"; in logarithms, no digit is lost where the
    product is near 0 or near 1.

    Args:
        label_B: whether all of them happened.
        probabilities: of each step, given the steps before it.
    """
    all_B = tf.zeros_like(label_B)
    ends = []
    for probability in probabilities:
        ends.append(all_B + log_no(probability))
        all_B += log_yes(probability)
    return -(label_B * all_B + (1.0 - label_B) * tf.reduce_logsumexp(tf.stack(ends), axis=0))


def log_yes(probability: tf.Tensor) -> tf.Tensor:
    """Log p ``(B,)``, from the logits where Keras finds them."""
    return -_flat(keras.ops.binary_crossentropy(tf.ones_like(probability), probability))


def log_no(probability: tf.Tensor) -> tf.Tensor:
    """Log(1 − p) ``(B,)``, from the logits where Keras finds them."""
    return -_flat(keras.ops.binary_crossentropy(tf.zeros_like(probability), probability))


def _flat(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(values, tf.float32), [-1])
