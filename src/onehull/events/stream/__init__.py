"""An event log as a stream: read once, piece by piece, with memory for the events of one window.

``inputs`` reads files side by side in the order of their events' time, and says up to when they are complete (the
watermark). ``windows`` holds what is open, and lets a sample go when its windows have closed. ``epochs`` makes the
samples, what is still open and the place in the files durable in one step. ``assemble`` puts them together.
"""

from onehull.events.stream.assemble import Stream

__all__ = ["Stream"]
