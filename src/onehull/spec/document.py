"""The whole document: one frozen object that says what is wanted."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from onehull.spec.balance import Balance, StaticBalance
from onehull.spec.data import Data
from onehull.spec.features import Feature
from onehull.spec.leakage import Leakage
from onehull.spec.model import Model, SharedBottom
from onehull.spec.records import Records
from onehull.spec.section import Name, Section
from onehull.spec.serving import Fusion, Monitoring, Serving
from onehull.spec.store import Store
from onehull.spec.tasks import Task
from onehull.spec.training import Training


class Spec(Section):
    """Data, features, tasks, leakage, records, model, balance, training, fusion, serving, monitoring, feature store.

    Build it in Python from the same objects that a YAML file describes, or read a file with
    `onehull.load_spec`. Rules that span sections are checked by `onehull.spec.check.cross_faults`.
    """

    name: Name
    """Name of the bundle."""
    description: str = ""
    data: Data
    features: Annotated[dict[Name, Feature], Field(min_length=1)]
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    leakage: Leakage = Leakage()
    records: Records = Records()
    model: Model = SharedBottom()
    balance: Balance = StaticBalance()
    training: Training = Training()
    fusion: Fusion = Fusion()
    serving: Serving = Serving()
    monitoring: Monitoring = Monitoring()
    store: Store = Store()

    def section(self, *names: str) -> dict[str, Any]:
        """The JSON form of some sections, for fingerprints."""
        return self.model_dump(mode="json", include=set(names))
