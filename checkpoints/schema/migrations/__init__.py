"""Alembic's environment; `bursar.checkpoints.schema.migrate` runs it, there is no alembic.ini."""
