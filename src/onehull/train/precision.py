"""Precision of a step, and whether XLA compiles it: chosen by measurement, recorded by shape, settled by the spec.

bfloat16 and XLA pay on some machines and for some shapes, and cost time on others, so that ``auto`` measures: the real
step of a model of the same shape (`onehull.train.probe`), float32 first. What was chosen stands in the training's
directory, so that a run that continues calculates as it began, and in a file of this machine's measurements, so that
the same shape is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from onehull.errors import ArtifactError
from onehull.files import write_whole
from onehull.spec.training import Training

_LOG = logging.getLogger(__name__)
Precision = Literal["float32", "bfloat16"]
RECORD = "precision.json"
FEWEST_STEPS, FEWEST_SECONDS = 1000, 60.0
"""A training of fewer steps, or of fewer seconds by the float32 step, is not measured further: it cannot win back what
the measurement takes."""
MARGIN = 0.9
"""What is not float32 without XLA must need at most this share of its time, or float32 without XLA is kept."""
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_AMPERE = (8, 0)


class Candidate(NamedTuple):
    """A way to calculate a step.

    Attributes:
        precision: of the dense layers; weights, tables and losses are float32.
        jit_compile: whether XLA compiles the step.
    """

    precision: Precision = "float32"
    jit_compile: bool = False

    def __str__(self) -> str:
        return f"{self.precision}{' with XLA' if self.jit_compile else ''}"


@dataclass(frozen=True)
class Choice:
    """The way that was chosen.

    Attributes:
        precision: see `Candidate`.
        jit_compile: see `Candidate`.
        reason: why.
        step_ms: milliseconds of a step of what was measured, by candidate; None where it cannot be calculated so.
    """

    precision: Precision
    jit_compile: bool
    reason: str
    step_ms: dict[str, float | None] = field(default_factory=dict)

    @property
    def candidate(self) -> Candidate:
        """What was chosen."""
        return Candidate(self.precision, self.jit_compile)

    def text(self) -> str:
        """The choice and its reason in one line."""
        times = [f"{n} fails" if ms is None else f"{n} {ms:.1f} ms a step" for n, ms in self.step_ms.items()]
        return f"calculates in {self.candidate}: {self.reason}" + (f" ({', '.join(times)})" if times else "")


def candidates(training: Training, *, bfloat16: bool, xla: bool) -> list[Candidate]:
    """What the spec and the machine leave to choose from, the plainest first.

    XLA is not known to give the same bits twice, so that a deterministic training does not choose it.

    Args:
        training: `precision` and `jit_compile` of the spec; what it names is kept, whatever the machine has.
        bfloat16: whether to measure it, see `has_bfloat16`.
        xla: whether to measure it. On a CPU no shape that we measured gained by it, and compiling takes longer than all
            other measurements.
    """
    auto: tuple[Precision, ...] = ("float32", "bfloat16") if bfloat16 else ("float32",)
    precisions = auto if training.precision == "auto" else (training.precision,)
    compiled = (False, True) if xla and not training.deterministic else (False,)
    if training.jit_compile != "auto":
        compiled = (training.jit_compile,)
    return [Candidate(precision, jit) for jit in compiled for precision in precisions]


def choose(
    allowed: Sequence[Candidate],
    time_step: Callable[[Candidate], float],
    *,
    shape: Mapping[str, Any],
    steps: int,
    out_dir: Path,
    measured: Path | None = None,
) -> Choice:
    """Chooses how a training calculates its steps; writes the choice to its directory.

    Args:
        allowed: what there is to choose from, see `candidates`; the first is kept unless another is clearly faster.
        time_step: seconds of a step; may raise what TensorFlow raises where it cannot calculate so.
        shape: what the time of a step depends on, besides the machine; must be JSON.
        steps: that the training will take.
        out_dir: directory of the training.
        measured: file of this machine's measurements. Default: `measurements_file`.

    Raises:
        ArtifactError: the choice cannot be written.
    """
    measured = measured or measurements_file()
    described = {"shape": shape, "machine": machine()}
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    begun, known = _choice(_read(out_dir / RECORD)), _choice(_read(measured).get(key))
    if begun is not None and begun.candidate in allowed:
        return begun
    if len(allowed) == 1:
        choice = Choice(*allowed[0], "the spec and the machine leave nothing else")
    elif known is not None and known.candidate in allowed and set(map(str, allowed)) <= set(known.step_ms):
        choice = Choice(*known.candidate, f"measured before, see {measured}", known.step_ms)
    elif steps < FEWEST_STEPS:
        choice = Choice(*allowed[0], f"{steps:,} steps are too few to measure others")
    else:
        choice = _measured(allowed, time_step, steps)
        if len(choice.step_ms) == len(allowed):
            _remember(measured, key, {**asdict(choice), **described, "date": datetime.now(UTC).date().isoformat()})
    write_whole(out_dir / RECORD, json.dumps(asdict(choice), indent=2) + "\n")
    return choice


def has_bfloat16() -> bool:
    """Whether the machine multiplies matrices in bfloat16: AVX512_BF16, AMX, an ARM with BF16, a GPU since Ampere."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        found = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
        return all(capability >= _AMPERE for capability in found)
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "hw.optional.arm.FEAT_BF16") == "1"
    flags = {flag for name, value in _cpuinfo() if name in ("flags", "Features") for flag in value.split()}
    return bool(flags & _BFLOAT16_FLAGS) or "bf16" in flags


def machine() -> dict[str, Any]:
    """What the time of a step depends on besides its shape: processor, cores, GPUs, versions."""
    names = [value for name, value in _cpuinfo() if name == "model name"]
    processor = names[0] if names else _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    gpus = [tf.config.experimental.get_device_details(g) for g in tf.config.list_physical_devices("GPU")]
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "bfloat16": has_bfloat16(),
        "gpus": [str(details.get("device_name", "GPU")) for details in gpus],
        **{name: version(name) for name in ("onehull", "tensorflow", "keras")},
    }


def measurements_file() -> Path:
    """Where this machine's measurements are: ``onehull/precision.json`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onehull" / RECORD


def _measured(allowed: Sequence[Candidate], time_step: Callable[[Candidate], float], steps: int) -> Choice:
    plain = allowed[0]
    seconds: dict[Candidate, float | None] = {plain: time_step(plain)}
    took = seconds[plain] or 0.0
    if took * steps < FEWEST_SECONDS:
        reason = f"{steps:,} steps of {took * 1000:.1f} ms are too few to measure others"
        return Choice(*plain, reason, _by_name(seconds))
    for candidate in allowed[1:]:
        try:
            seconds[candidate] = time_step(candidate)
        except (tf.errors.OpError, NotImplementedError) as error:
            _LOG.info("a step cannot be calculated in %s: %s", candidate, error)
            seconds[candidate] = None
    fastest = min((c for c in allowed if seconds[c] is not None), key=lambda c: seconds[c] or 0.0)
    chosen = fastest if (seconds[fastest] or 0.0) <= MARGIN * took else plain
    return Choice(*chosen, "measured on this machine", _by_name(seconds))


def _by_name(seconds: Mapping[Candidate, float | None]) -> dict[str, float | None]:
    return {str(c): None if value is None else round(1000 * value, 3) for c, value in seconds.items()}


def _remember(path: Path, key: str, entry: Mapping[str, Any]) -> None:
    """Adds an entry; where that cannot be done, the next training measures again."""
    try:
        write_whole(path, json.dumps({**_read(path), key: entry}, indent=2) + "\n")
    except ArtifactError as error:
        _LOG.warning("%s", error)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _LOG.warning("%s is passed over, and made anew: %s", path, error)
        return {}
    return found if isinstance(found, dict) else {}


def _choice(entry: Any) -> Choice | None:
    """A choice that was written; None where there is none."""
    try:
        return Choice(*(entry[name] for name in ("precision", "jit_compile", "reason", "step_ms")))
    except (KeyError, TypeError):
        return None


def _cpuinfo() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
