"""Alembic's environment; `bursar.checkpoints.migrate` runs it, there is no alembic.ini."""
