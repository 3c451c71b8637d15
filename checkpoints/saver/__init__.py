"""The checkpointer: how sessions are stored, encrypted, listed and pruned."""

from bursar.checkpoints.saver.saver import SQLAlchemySaver

__all__ = ["SQLAlchemySaver"]
