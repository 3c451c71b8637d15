"""The schemas of a supervisor's graph: Bursar's own, with the keys that a user's `state_schema` adds."""

from dataclasses import dataclass
from typing import Any, TypedDict, cast, get_type_hints

from bursar.state.errors import ConfigurationError
from bursar.state.session import SessionInput, SessionOutput, SessionState

OWN = frozenset(get_type_hints(SessionState))


@dataclass(frozen=True)
class Schemas:
    """What a graph's state, input and output are, and its context; and the keys that a `state_schema` added."""

    state: type[Any] = SessionState
    input: type[Any] = SessionInput
    output: type[Any] = SessionOutput
    context: type[Any] | None = None
    keys: tuple[str, ...] = ()


def schemas_of(state_schema: type[Any] | None, context_schema: type[Any] | None) -> Schemas:
    """Return the schemas of a graph whose state, input and output have the keys of `state_schema` too.

    `messages` is Bursar's own and may be in it. Raises `ConfigurationError` if it has another key of Bursar's, or if it
    is no class with typed fields.
    """
    for name, schema in (("state_schema", state_schema), ("context_schema", context_schema)):
        if schema is not None and not isinstance(schema, type):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped code passes a value
            raise ConfigurationError(f"{name} is a class, such as a TypedDict, not {schema!r}")
    if state_schema is None:
        return Schemas(context=context_schema)
    added = {key: hint for key, hint in get_type_hints(state_schema, include_extras=True).items() if key != "messages"}
    if taken := sorted(OWN & added.keys()):
        raise ConfigurationError(f"state_schema has {taken[0]!r}, which is a key of Bursar's own; give it another name")

    def extended(own: type[Any]) -> type[Any]:
        hints = {**get_type_hints(own, include_extras=True), **added}
        return cast("type[Any]", TypedDict(own.__name__, hints))  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]

    state, entered, output = map(extended, (SessionState, SessionInput, SessionOutput))
    return Schemas(state, entered, output, context_schema, tuple(added))
