"""How the saver stores checkpoints: tables, statements, rows."""
