"""Assembly and analysis on Apache Beam: the local engine's results, from as many machines as a runner has.

`assemble_on_beam` joins an event log, `measure_on_beam` analyses features with TensorFlow Transform; which runner does
it is for Beam's own flags to say. Nothing here decides anew: the rules for events and for ids are those of
`onehull.events` and `onehull.features`. `preprocessing_fn_of` gives the features of a spec to TFX, as a function of
TensorFlow Transform. Beam and TensorFlow Transform are imported when one of them is called.
"""

from onehull.beam.analyze import measure_on_beam
from onehull.beam.assemble import BeamJoin, assemble_on_beam
from onehull.beam.preprocessing import preprocessing_fn_of, raw_feature_spec
from onehull.beam.runner import pipeline_options

__all__ = [
    "BeamJoin",
    "assemble_on_beam",
    "measure_on_beam",
    "pipeline_options",
    "preprocessing_fn_of",
    "raw_feature_spec",
]
