"""The agent worker: does the subtasks, each by one stream of a model."""
