"""What all tables share: the SQLAlchemy metadata, the type of text keys, and partial indexes.

Every table's name begins with `bursar_`, because an application's own tables are often in the same database.
`migrations/` makes the same tables, and a test compares the two.
"""

from sqlalchemy import Connection, MetaData, Table, Text, event, text

metadata = MetaData()

KEY = Text().with_variant(Text(collation="C"), "postgresql")  # text in code-point order on both databases


def partial_index(table: Table, index: str, where: str) -> None:
    """Make the table's index `index` partial: it has only the rows for which the SQL condition `where` is true.

    SQLAlchemy takes the condition as an option of a dialect, and setting the option imports the dialect. That import
    takes a quarter as long as importing all of Bursar, so the option is set only when the table is created.
    """

    @event.listens_for(table, "before_create")
    def say(_table: Table, connection: Connection, **_options: object) -> None:
        [named] = [one for one in table.indexes if one.name == index]
        named.dialect_options[connection.dialect.name]["where"] = text(where)
