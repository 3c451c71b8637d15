"""What all tables share: where they are declared, the type of their keys, and an index of some rows only.

Every table's name begins with `bursar_`, because the books often share a database with an application's own tables.
`migrations/` makes the same tables; a test holds the two equal.
"""

from sqlalchemy import Connection, MetaData, Table, Text, event, text

metadata = MetaData()

KEY = Text().with_variant(Text(collation="C"), "postgresql")  # text in code-point order on both databases


def partial_index(table: Table, index: str, where: str) -> None:
    """Let an index hold only the rows for which `where` is true.

    The option is set when the table is made, because naming a dialect's option imports the dialect. That takes a
    quarter of the time that importing all of Bursar takes.
    """

    @event.listens_for(table, "before_create")
    def say(_table: Table, connection: Connection, **_options: object) -> None:
        [named] = [one for one in table.indexes if one.name == index]
        named.dialect_options[connection.dialect.name]["where"] = text(where)
