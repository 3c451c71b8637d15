"""`Address`: the session, namespace and checkpoint that a LangGraph config names."""

from typing import NamedTuple, cast

from langchain_core.runnables import RunnableConfig

from bursar.state.text import check_storable

Row = dict[str, object]


class Address(NamedTuple):
    """The session, the namespace and the checkpoint that a config names.

    If `checkpoint_id` is None, the latest checkpoint is meant.
    """

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str | None

    def config(self) -> RunnableConfig:
        """Return a config that names this address."""
        return {"configurable": self._asdict()}

    @property
    def session(self) -> tuple[str, str]:
        """The session and its namespace, without the checkpoint."""
        return self.thread_id, self.checkpoint_ns

    def parameters(self) -> Row:
        """Return the three fields by name, as parameters of a statement."""
        return cast(Row, self._asdict())


def address_of(config: RunnableConfig) -> Address:
    """Return the address in `config`. Raises `ValueError` if `config` names no session.

    Raises `ConfigurationError` if no database keeps a part of the address.
    """
    configurable = config.get("configurable", {})
    if "thread_id" not in configurable:
        raise ValueError("the config names no session; pass {'configurable': {'thread_id': ...}}")
    at = Address(
        str(configurable["thread_id"]),
        configurable.get("checkpoint_ns") or "",
        configurable.get("checkpoint_id") or None,
    )
    for name, text in at._asdict().items():
        if text and not (text.isascii() and text.isprintable()):  # such text is always storable, and the usual one
            check_storable(name, text)
    return at
