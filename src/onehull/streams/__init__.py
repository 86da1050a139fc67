"""Brokers in and out: Apache Kafka and Google Pub/Sub, and the segment files that their events are kept in."""
