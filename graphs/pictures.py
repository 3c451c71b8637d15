"""The picture of a graph: below each specialist that is a cascade or a choice, its rungs and what leads to them."""

from collections.abc import Mapping

from langchain_core.runnables.graph import Graph as Picture
from langchain_core.runnables.graph import Node

from bursar.checkpoints.ledger.calls import PATH
from bursar.nodes.cascades.cascade import Cascade
from bursar.nodes.cascades.choose import Choose
from bursar.nodes.cascades.rungs import Rung
from bursar.nodes.specialists.chain import Chain

MAX_DEPTH = 16
ESCALATES = "not accepted, and worth it"


def with_rungs(picture: Picture, chains: Mapping[str, Chain]) -> Picture:
    """Return the picture with the rungs of each cascade and the branches of each choice under their specialist's node.

    A rung is named by its path, `tax → gpt-4o`, as it is in the ledger. The picture alone has these nodes: they are no
    steps of the graph.
    """
    for chain in chains.values():
        for link in chain.links:
            if (node := picture.nodes.get(link.node)) is not None:
                _draw(picture, node, link.node, link.handler, MAX_DEPTH)
    return picture


def _draw(picture: Picture, node: Node, path: str, handler: object, depth: int) -> None:
    if isinstance(handler, Choose) and depth:
        for name, rung in handler.rungs.items():
            label = "otherwise" if name == handler.otherwise else _name(handler.conditions[name])
            _add(picture, node, path, rung, label=label, depth=depth - 1)
    if isinstance(handler, Cascade) and depth:
        before, label = node, None
        for rung in handler.rungs:
            before = _add(picture, before, path, rung, label=label, depth=depth - 1)
            label = ESCALATES


def _add(picture: Picture, source: Node, path: str, rung: Rung, *, label: str | None, depth: int) -> Node:
    own = f"{path}{PATH}{rung.name}"
    # A colon would put the node into a subgraph of that name. A chain may name one specialist twice.
    drawn = own.replace(":", "_")
    node = picture.nodes.get(drawn) or picture.add_node(None, drawn)
    picture.add_edge(source, node, label, conditional=label is not None)
    _draw(picture, node, own, rung.handler, depth)
    return node


def _name(condition: object) -> str:
    named = getattr(condition, "__name__", "") or type(condition).__name__
    return "its condition holds" if named == "<lambda>" else named.replace("_", " ").strip()
