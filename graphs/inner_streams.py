"""Streams that give the tokens and events of the agents' own graphs, in the shape that the caller asked for."""

from collections.abc import Iterator
from typing import Any

# What comes through from inside an agent's graph. The other modes are about the state of a graph, here the outer one.
INNER_MODES = frozenset({"messages", "custom", "tools"})


class InnerStream:
    """Asks LangGraph for what the graphs inside write, and takes out of its chunks what the caller did not ask for.

    If the caller asked for `subgraphs`, or for no mode of `INNER_MODES`, it changes nothing. `options` are those to
    stream with.
    """

    def __init__(self, options: dict[str, Any], default: str) -> None:
        mode: object = options.get("stream_mode") or default
        self._several = not isinstance(mode, str)
        modes = {mode} if isinstance(mode, str) else set[object](mode)  # pyright: ignore[reportArgumentType]
        self._on = not options.get("subgraphs") and bool(modes & INNER_MODES)
        self.options = {**options, "subgraphs": True} if self._on else options

    def chunks(self, chunk: Any) -> Iterator[Any]:
        """Yield the chunk in the caller's shape; nothing if it is of an inner graph and not of `INNER_MODES`."""
        if not self._on:
            yield chunk
        elif isinstance(chunk, dict):  # version 2 of LangGraph's streams
            if not chunk["ns"] or chunk["type"] in INNER_MODES:
                yield {**chunk, "ns": ()}
        elif not self._several:
            yield chunk[1]
        elif not chunk[0] or chunk[1] in INNER_MODES:
            yield chunk[1:]
