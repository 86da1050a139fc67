"""The feature store: values as they were known at a moment, for training, and as they are known now, for ranking."""
