"""Brokers in and out: Apache Kafka and Google Pub/Sub, and the segment files that their events are kept in.

In: a consumer hands messages to drafts, one a partition; a draft becomes a segment (`segments.SegmentChain`), which
holds the events, what was refused, and the place in the stream that comes next. Data and place are one directory,
moved into place by one rename, so that no moment exists at which one is durable and the other is not.

Out: a `sinks.Sink` hands events to a broker and says when they are durable.
"""
