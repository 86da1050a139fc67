"""What analysis found: one frozen object a feature, that says how raw values become model inputs.

It is data, not code: it is written as JSON, travels in the bundle, and two engines read it, the TensorFlow graph
(`onehull.features.graph`) and NumPy (`onehull.features.arrays`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from onehull.errors import ArtifactError
from onehull.files import write_whole
from onehull.spec.inputs import FIRST_ID, ModelInput
from onehull.spec.section import Section

MAX_Z = 1e4
"""Standardised numbers are kept within ±MAX_Z. Among n values none is further than sqrt(n - 1) standard deviations
from their mean (Samuelson, 1968), so up to 100 million training rows are not touched; a wild value at serving is."""

SMALLEST = 2.0**-126
"""The smallest normal float32. What is nearer to 0 is taken for 0: TensorFlow's kernels do so on some threads and not
on others, and a number must not fall into two buckets."""

Key = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Bag(Section):
    """A feature that holds a list of ids a row."""

    length: int
    """Longer lists keep their first ids."""
    pooling: Literal["mean", "sum"]
    separator: str | None = None
    """Splits text, where a request holds text instead of a list."""


class _IdTransform(Section, ABC):
    dim: int | None = None
    """Width of the embedding; None leaves it to the model."""
    bag: Bag | None = None
    """Present for list features."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows of the embedding."""

    def model_input(self, name: str) -> ModelInput:
        """The encoded input that the model gets."""
        if self.bag is None:
            return ModelInput(name=name, kind="id", rows=self.rows, dim=self.dim)
        length, pooling = self.bag.length, self.bag.pooling
        return ModelInput(name=name, kind="ids", rows=self.rows, dim=self.dim, length=length, pooling=pooling)


class VocabularyTransform(_IdTransform):
    """Ids by their place in a list: missing is 0, unseen is 1, the first value is 2."""

    kind: Literal["vocabulary"] = "vocabulary"
    values: tuple[str, ...]
    """Most frequent first; ties in the order of the text."""

    @property
    def rows(self) -> int:
        """Rows of the embedding."""
        return FIRST_ID + len(self.values)


class HashTransform(_IdTransform):
    """Ids by their SipHash-2-4: missing is 0, the buckets start at 1."""

    kind: Literal["hash"] = "hash"
    buckets: Annotated[int, Field(ge=1)]
    key: tuple[Key, Key]

    @property
    def rows(self) -> int:
        """Rows of the embedding."""
        return 1 + self.buckets


class MomentsTransform(Section):
    """(x - mean) / std, of the number or of its signed logarithm; a missing number is the mean, which is 0."""

    kind: Literal["moments"] = "moments"
    mean: Finite
    std: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """0 where all training values are equal: the feature is then 0 everywhere."""
    log1p: bool = False
    """Take sign(x)·log(1 + |x|) first; mean and std are those of the logarithm."""
    has_missing: bool
    """Training had missing values, so a second number says 1 where the value is missing."""

    def model_input(self, name: str) -> ModelInput:
        """The encoded input that the model gets."""
        return ModelInput(name=name, kind="dense", length=2 if self.has_missing else 1)


class BucketsTransform(Section):
    """A number as an id: missing is 0, numbers below the first boundary are 1, and so on up."""

    kind: Literal["buckets"] = "buckets"
    boundaries: tuple[Finite, ...]
    """Ascending, each exactly a float32; a boundary belongs to the bucket above it."""
    dim: int | None = None

    def model_input(self, name: str) -> ModelInput:
        """The encoded input that the model gets."""
        return ModelInput(name=name, kind="id", rows=2 + len(self.boundaries), dim=self.dim)


class VectorTransform(Section):
    """A vector as it is; one with a missing or infinite element is all zeros."""

    kind: Literal["vector"] = "vector"
    size: Annotated[int, Field(ge=1)]

    def model_input(self, name: str) -> ModelInput:
        """The encoded input that the model gets."""
        return ModelInput(name=name, kind="dense", length=self.size)


FeatureTransform = Annotated[
    VocabularyTransform | HashTransform | MomentsTransform | BucketsTransform | VectorTransform,
    Field(discriminator="kind"),
]


class Transform(Section):
    """How every feature becomes a model input, in the order of the spec."""

    format: Literal[1] = 1
    features: dict[str, FeatureTransform]

    @property
    def inputs(self) -> tuple[ModelInput, ...]:
        """The encoded inputs, one a feature, under the feature's name."""
        return tuple(feature.model_input(name) for name, feature in self.features.items())

    def save(self, path: str | Path) -> None:
        """Writes the transform as JSON; the file appears whole or not at all.

        Raises:
            ArtifactError: the disk is full or the directory cannot be written.
        """
        write_whole(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Transform:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: no such file, or one that is not a transform of this format.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error}. Prepare the data again.") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise ArtifactError(f"{path}: {place}: {first['msg']}. Prepare the data again.") from error
