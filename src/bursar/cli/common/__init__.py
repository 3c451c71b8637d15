"""What several commands share: their options, the printing of tables and JSON, and the opening of applications."""
