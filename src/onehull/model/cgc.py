"""CGC: customized gate control, the single level of PLE (Tang et al., RecSys 2020, section 4.1)."""

from __future__ import annotations

from onehull.model.ple import ple

cgc = ple
"""What makes it CGC is that its section allows one level only."""
