"""The household's data: records, tables, named queries, and the sample household."""
