"""The tables of the saver: checkpoints, the values of their channels, the writes of their tasks.

A channel's value is stored once per version, however many checkpoints have that version: a checkpoint's row names the
version of each channel, and a read joins the values. A version is stored whole, or as a difference to another version
of the same channel, its base. Keys are text in code-point order on both databases. A write names its checkpoint without
a foreign key, because the write may be stored before the checkpoint.
"""

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, Table, Text

from bursar.checkpoints.schema.metadata import KEY, metadata, partial_index

HAS_RUN = "run_id IS NOT NULL"

checkpoints = Table(
    "bursar_checkpoints",
    metadata,
    Column("thread_id", KEY, primary_key=True),
    Column("checkpoint_ns", KEY, primary_key=True),
    Column("checkpoint_id", KEY, primary_key=True),
    Column("parent_id", KEY),
    Column("run_id", KEY),
    Column("hidden", Boolean, nullable=False),  # deleted for users, kept because a delta channel is rebuilt from it
    Column("versions", Text, nullable=False),  # JSON object: channel to version, both text
    Column("kind", Text, nullable=False),  # the serde's name for the payload's encoding
    Column("payload", LargeBinary, nullable=False),  # checkpoint and metadata
    Column("coding", Text),  # what was done to the payload after that encoding: deflated, encrypted under a key
    Index("bursar_checkpoints_run", "run_id"),  # only rows with a run
)
partial_index(checkpoints, "bursar_checkpoints_run", HAS_RUN)

channel_values = Table(
    "bursar_channel_values",
    metadata,
    Column("thread_id", KEY, primary_key=True),
    Column("checkpoint_ns", KEY, primary_key=True),
    Column("version", KEY, primary_key=True),  # before the channel, so that the values of one step lie side by side
    Column("channel", KEY, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("coding", Text),
    Column("base", KEY),  # the version that the payload is a difference to; NULL: the payload is the value
)

task_writes = Table(
    "bursar_task_writes",
    metadata,
    Column("thread_id", KEY, primary_key=True),
    Column("checkpoint_ns", KEY, primary_key=True),
    Column("checkpoint_id", KEY, primary_key=True),
    Column("task_id", KEY, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),  # negative for errors, interrupts and resumes
    Column("task_path", KEY, nullable=False),
    Column("channel", KEY, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("coding", Text),
)
