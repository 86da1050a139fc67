"""Steps with cached artifacts: assemble → prepare → train → evaluate → export.

Each step is a function of a `Project` (spec, data directory, output directory). A step whose inputs have not changed
is kept; one that was interrupted continues. `run` does them all, and `update` does them from a bundle on. The verbs of
the command line are these functions.
"""

from onehull.pipeline.checking import check
from onehull.pipeline.project import Project
from onehull.pipeline.update import update
from onehull.pipeline.verbs import RunResult, assemble, evaluate, export, prepare, run, train

__all__ = ["Project", "RunResult", "assemble", "check", "evaluate", "export", "prepare", "run", "train", "update"]
