"""Assembly and analysis on Apache Beam: the local engine's results, from as many machines as a runner has."""
