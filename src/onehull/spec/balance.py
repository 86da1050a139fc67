"""How the tasks' losses are normalised and weighted against each other.

One section a method. Its fields beside the common ones are the arguments of the method's class in `onehull.balance`;
a mapping by task becomes a tuple in the order of the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from onehull.spec.section import Section

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]
Steps = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class _Balance(Section):
    weights: dict[str, Weight] = {}
    """Weight of each task; a task that is not named has weight 1."""
    normalizer: Literal["coverage", "labelled", "batch", "sum"] = "coverage"
    """What a task's summed loss is divided by: the expected number of labels (batch size × moving share of
    labelled rows), the labels of this batch, the batch size, or nothing."""


class _Adaptive(_Balance):
    every: Steps = 1
    """The weights are computed at every n-th step, and kept in between."""
    smooth: Decay = 0.0
    """Decay of a moving average over the weights; 0 takes them as they come, 0.9 is usual."""
    clip: Positive | None = None
    """Largest weight; a negative one is cut at minus this."""
    scale: Literal["none", "sum_to_tasks", "sum_to_one"] = "none"
    """What the weights are scaled to: their sum is the number of active tasks, or 1."""


class _Gradients(_Adaptive):
    level: Literal["representation", "sampled", "parameters"] = "representation"
    """Where the gradients of the tasks are compared: at the representation that they share (costs next to nothing), at
    the shared parameters on a part of the batch, or at the shared parameters on all of it."""
    sample: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Part of the batch that ``level: sampled`` looks at."""
    tables: bool = False
    """Whether embedding tables take part in a comparison at the parameters; without, they are weighed as the shared
    layers are."""
    match_norm: bool = False
    """The weights are scaled so that the update is as long as the plain sum's."""
    fallback: Positive | None = None
    """Condition number of the cosines of the gradients above which all tasks weigh 1 at that step."""
    groups: tuple[str, ...] = ()
    """Regular expressions of the shared variables' paths: each has weights of its own, and so have the rest.
    Needs ``level: parameters``."""


class StaticBalance(_Balance):
    """Fixed weights: the bar that every other method has to beat."""

    kind: Literal["static"] = "static"
    reference: Literal["none", "initial", "prior"] = "none"
    """Each loss is divided by its mean over the first steps (``initial``), or, for a binary task, by the entropy of its
    share of positives (``prior``; normalised entropy)."""
    reference_steps: Steps = 20
    """Steps whose mean loss is the initial one."""


class UwBalance(_Adaptive):
    """Uncertainty weighting with capped log variances (Kendall et al., CVPR 2018)."""

    kind: Literal["uw"]
    learning_rate: Positive = 0.01
    start: float = 0.0
    """First log variance of every task."""
    cap: Positive = 3.0
    """Log variances stay between minus this and this."""


class DwaBalance(_Adaptive):
    """Dynamic weight average (Liu et al., CVPR 2019), on windows of steps."""

    kind: Literal["dwa"]
    temperature: Positive = 2.0
    window_steps: Steps = 1000


class RlwBalance(_Adaptive):
    """Random weights at each step (Lin et al., TMLR 2022)."""

    kind: Literal["rlw"]
    seed: Seed = 0


class ImtlLBalance(_Adaptive):
    """Losses scaled to the same size by learned factors (IMTL-L; Liu et al., ICLR 2021)."""

    kind: Literal["imtl_l"]
    learning_rate: Positive = 0.01
    cap: Positive = 3.0
    """Logarithms of the factors stay between minus this and this."""


class GlsBalance(_Adaptive):
    """The geometric mean of the losses (GLS; Chennupati et al., CVPR workshops 2019)."""

    kind: Literal["gls"]


class StchBalance(_Adaptive):
    """Smooth Tchebycheff scalarisation: mostly the worst task (Lin et al., ICML 2024)."""

    kind: Literal["stch"]
    temperature: Positive = 1.0
    """Smoothness μ; a small one looks at the worst task only."""
    warmup_steps: Steps = 1000
    """Steps whose mean loss is the reference that a task is compared with."""


class GradnormBalance(_Gradients):
    """Gradient norms by the pace of each task (GradNorm; Chen et al., ICML 2018)."""

    kind: Literal["gradnorm"]
    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.5
    """How strongly slower tasks are favoured; 0 makes all norms equal."""
    learning_rate: Positive = 0.025
    initial_losses: dict[str, Positive] = {}
    """Loss of each task before training. Default: the mean over its first steps."""
    initial_steps: Steps = 20


class FamoBalance(_Adaptive):
    """Equal relative progress, from the losses before and after the step (FAMO; Liu et al., NeurIPS 2023)."""

    kind: Literal["famo"]
    learning_rate: Positive = 0.025
    decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    same_batch: bool = True
    """Evaluate the same batch again after the step; otherwise the next batch stands for it: cheaper, noisier."""


class PcgradBalance(_Gradients):
    """Project conflicting gradients (Yu et al., NeurIPS 2020)."""

    kind: Literal["pcgrad"]
    seed: Seed = 0


class GradvacBalance(_Gradients):
    """Raise the cosines of gradients to their usual ones (GradVac; Wang et al., ICLR 2021)."""

    kind: Literal["gradvac"]
    beta: Share = 0.01
    """Step of the moving average of the cosines."""
    seed: Seed = 0


class MgdaBalance(_Gradients):
    """The shortest convex combination of the gradients (MGDA-UB; Sener and Koltun, NeurIPS 2018).

    With lower bounds on the weights it is PE-LTR (Lin et al., RecSys 2019).
    """

    kind: Literal["mgda"]
    lower_bounds: dict[str, Share] = {}
    """Least weight of a task, of a total of 1."""
    normalize: bool = False
    """Compare directions: gradients are divided by their norms first."""


class CagradBalance(_Gradients):
    """The best worst task near the mean gradient (CAGrad; Liu et al., NeurIPS 2021)."""

    kind: Literal["cagrad"]
    c: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Radius around the mean gradient, as a share of its length."""
    rescale: Literal["none", "square", "linear"] = "square"
    """The update is divided by nothing, 1 + c², or 1 + c."""


class ImtlGBalance(_Gradients):
    """Equal projections on all gradients (IMTL-G; Liu et al., ICLR 2021)."""

    kind: Literal["imtl_g"]


class NashMtlBalance(_Gradients):
    """The Nash bargaining solution (Navon et al., ICML 2022)."""

    kind: Literal["nash_mtl"]
    max_norm: Positive | None = 1.0
    """Longest update, in lengths of the plain sum of the gradients."""


class FairgradBalance(_Gradients):
    """α-fair progress of the tasks (FairGrad; Ban and Ji, ICML 2024); 1 is Nash-MTL."""

    kind: Literal["fairgrad"]
    alpha: Positive = 2.0
    max_norm: Positive | None = 1.0
    """Longest update, in lengths of the plain sum of the gradients."""


class AlignedMtlBalance(_Gradients):
    """Gradients made orthogonal and equally long (Aligned-MTL; Senushkin et al., CVPR 2023)."""

    kind: Literal["aligned_mtl"]
    mode: Literal["min", "median", "rmse"] = "min"
    """Which singular value is the common length."""


class UpgradBalance(_Gradients):
    """Each gradient projected where no task gets worse (UPGrad; Quinton and Rey, 2024)."""

    kind: Literal["upgrad"]


class DualprojBalance(_Gradients):
    """The mean gradient projected where no task gets worse (DualProj; Lopez-Paz and Ranzato, NeurIPS 2017)."""

    kind: Literal["dualproj"]


class ConfigBalance(_Gradients):
    """Equal cosines with all gradients (ConFIG; Liu et al., ICLR 2025)."""

    kind: Literal["config"]


class DbMtlBalance(_Gradients):
    """Log losses, and gradients as long as the longest (DB-MTL; Lin et al., 2023), without the average over steps."""

    kind: Literal["db_mtl"]
    log: bool = True
    """Gradients of the logarithms of the losses."""


class GradcraftBalance(_Gradients):
    """Equal magnitudes, then no conflict with any other task (GradCraft; Bai et al., KDD 2024)."""

    kind: Literal["gradcraft"]
    tau: Share = 1.0
    """How far magnitudes are made equal."""
    epsilon: Share = 0.0
    """Cosine that is left where gradients were in conflict."""
    decay: Decay = 0.0
    """Of the moving average of the magnitudes."""


class MetabalanceBalance(_Gradients):
    """Norms brought near the target task's, variable by variable (MetaBalance; He et al., WWW 2022)."""

    kind: Literal["metabalance"]
    level: Literal["parameters"] = "parameters"
    target: str | None = None
    """The task that the others are measured by. Default: the first."""
    relax: Share = 0.7
    """How near: 0 leaves the gradients, 1 makes all norms equal."""
    decay: Decay = 0.9
    """Of the moving averages of the norms."""
    strategy: Literal["shrink", "enlarge", "both"] = "both"
    """Which of the other gradients are touched: the longer ones, the shorter ones, all."""


def _default_kind(value: Any) -> Any:
    return {"kind": "static", **value} if isinstance(value, Mapping) else value


_Method = Annotated[
    StaticBalance
    | UwBalance
    | DwaBalance
    | RlwBalance
    | ImtlLBalance
    | GlsBalance
    | StchBalance
    | GradnormBalance
    | FamoBalance
    | PcgradBalance
    | GradvacBalance
    | MgdaBalance
    | CagradBalance
    | ImtlGBalance
    | NashMtlBalance
    | FairgradBalance
    | AlignedMtlBalance
    | UpgradBalance
    | DualprojBalance
    | ConfigBalance
    | DbMtlBalance
    | GradcraftBalance
    | MetabalanceBalance,
    Field(discriminator="kind"),
]

Balance = Annotated[_Method, BeforeValidator(_default_kind)]
