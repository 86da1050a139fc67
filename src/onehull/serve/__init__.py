"""The ranking service: recall → score → fuse → order, its event log, its monitors and its page.

`Ranker` ranks in process; `create_app` puts it behind HTTP; `serve` runs that until it is stopped. With the LiteRT
engine nothing here loads TensorFlow.
"""

from onehull.serve.app import create_app
from onehull.serve.ranker import Ranker
from onehull.serve.requests import RankRequest
from onehull.serve.response import RankedItem, RankResponse
from onehull.serve.server import serve

__all__ = ["RankRequest", "RankResponse", "RankedItem", "Ranker", "create_app", "serve"]
