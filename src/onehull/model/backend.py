"""Keras runs on TensorFlow here; another backend is refused with the command that selects this one."""

from __future__ import annotations

import keras

from onehull.errors import MissingPartError


def require_tensorflow() -> None:
    """Checks that Keras computes with TensorFlow.

    Raises:
        MissingPartError: Keras was imported with another backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        remedy = "Set the environment variable KERAS_BACKEND=tensorflow, or 'backend' in ~/.keras/keras.json."
        raise MissingPartError(f"keras must run on the tensorflow backend. Received {backend!r}. {remedy}")
