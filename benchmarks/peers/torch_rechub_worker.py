"""torch-rechub: its SharedBottom, trained by its MTLTrainer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch  # type: ignore[import-not-found]
from torch_rechub.basic.features import DenseFeature, SparseFeature  # type: ignore[import-not-found]
from torch_rechub.models.multi_task import SharedBottom  # type: ignore[import-not-found]
from torch_rechub.trainers import MTLTrainer  # type: ignore[import-not-found]

from benchmarks.peers.conversation import Contestant, answer
from benchmarks.peers.task import BOTTOM, DIM, LEARNING_RATE, TOWER, Task


def without_normalization(model: torch.nn.Module) -> None:
    """Takes batch normalization out, which the other contestants' models have not."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.BatchNorm1d):
                setattr(parent, name, torch.nn.Identity())


def build(task: Task, first: Mapping[str, Any]) -> Contestant:
    """Adam; tuned: fused, which is one pass over weights, gradients and moments in place of several."""
    torch.set_num_threads(first["threads"])
    features = [SparseFeature(name, task.rows, DIM) for name in task.features]
    features.append(DenseFeature("numbers", task.numbers))
    model = SharedBottom(
        features,
        ["classification"] * len(task.tasks),
        bottom_params={"dims": list(BOTTOM), "activation": "relu", "dropout": 0},
        tower_params_list=[{"dims": [TOWER], "activation": "relu", "dropout": 0} for _ in task.tasks],
    )
    if first["tuned"]:
        without_normalization(model)
    adam = {"lr": LEARNING_RATE, "fused": True} if first["tuned"] else {"lr": LEARNING_RATE}
    trainer = MTLTrainer(model, ["classification"] * len(task.tasks), optimizer_params=adam)
    prepared = [batch(task, index) for index in range(len(task.ids_NBF))]
    position = 0

    def run(steps: int) -> tuple[float, float]:
        nonlocal position
        chosen = [prepared[(position + step) % len(prepared)] for step in range(steps)]
        position += steps
        start = time.perf_counter()
        losses = trainer.train_one_epoch(chosen)
        return time.perf_counter() - start, float(sum(losses))

    tuning = "fused Adam, no batch normalization" if first["tuned"] else "as it comes"
    settings = f"MTLTrainer, float32, {tuning}, batches made before"
    return Contestant(run, settings, ("torch-rechub", "torch"))


def batch(task: Task, index: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A batch in the trainer's form, ids already 64 bits wide as its layers want them."""
    ids_BF = torch.from_numpy(task.ids_NBF[index]).long()
    x = {name: ids_BF[:, place].contiguous() for place, name in enumerate(task.features)}
    x["numbers"] = torch.from_numpy(task.numbers_NBD[index])
    return x, torch.from_numpy(task.labels_NBT[index])


if __name__ == "__main__":
    answer(build)
