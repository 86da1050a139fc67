"""Contestants of `benchmarks.train_speed`: a worker for each, run by a Python that has that peer and nothing of ours.

The driver starts a worker and lets it train some steps whenever its turn comes, see `benchmarks.peers.conversation`.
All train the same model on the same arrays, see `benchmarks.peers.task`.
"""
