"""The client of `benchmarks.soak`: asks for feeds, sends feedback, and keeps books of what it was told."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from typing import Any

_PAUSE_SECONDS = 0.1
_SECONDS = 10.0
_FEED = 5


class Client:
    """Asks for feeds until it is stopped.

    Args:
        port: of the service.
        users: number of users in the world.
        seed: of what is asked and sent.

    Attributes:
        served: when each impression was answered, by its id.
        sent: feedback that was sent, by its id; None where there was no answer.
        kills: when the service was killed.
    """

    def __init__(self, port: int, users: int, seed: int) -> None:
        self.served: dict[str, float] = {}
        self.sent: dict[str, int | None] = {}
        self.kills: list[float] = []
        self._port, self._users = port, users
        self._draw = random.Random(seed)  # noqa: S311  a simulation
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    @property
    def taken(self) -> set[str]:
        """Feedback that was answered with 202."""
        return {name for name, status in dict(self.sent).items() if status == 202}

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(3 * _SECONDS)

    def note_kill(self) -> None:
        """The service has been killed."""
        self.kills.append(time.time())

    def _ask(self) -> None:
        while not self._stopped.wait(_PAUSE_SECONDS):
            context = {"hour": time.gmtime().tm_hour}
            request = {"user": f"u{self._draw.randrange(self._users)}", "context": context, "k": _FEED}
            status, answer = self._post("/rank", request)
            if status != 200:
                continue
            shown = [item["impression"] for item in answer["items"]]
            self.served |= dict.fromkeys(shown, time.time())
            for impression in shown:
                if self._draw.random() < 0.3:
                    self._click(impression)

    def _click(self, impression: str) -> None:
        name = f"f{uuid.uuid4().hex}"
        self.sent[name] = None
        self.sent[name], _ = self._post("/events", {"event": "click", "id": name, "impression": impression})

    def _post(self, path: str, document: Any) -> tuple[int | None, Any]:
        """Status and answer; None where there was no answer: nobody knows then what has become of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request("POST", path, json.dumps(document), {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None, None
        finally:
            connection.close()
