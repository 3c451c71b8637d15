"""What runs are expected to cost: the median of what the handler's last completed runs cost."""

from collections.abc import Iterable

from bursar.checkpoints.ledger.costs import median_costs
from bursar.checkpoints.ledger.transaction import Transaction
from bursar.nodes.specialists.chain import Link
from bursar.state.money import USD


def expected_costs(transaction: Transaction, links: Iterable[Link]) -> dict[str, USD]:
    """Return what a run of each link is expected to cost now, by the link's name: its ceiling at most.

    A link that does not learn, and one without completed runs, has the expected cost that it was made with.
    """
    wanted = list(links)
    known = median_costs(transaction, [link.name for link in wanted if link.learns])
    return {link.name: min(known.get(link.name, link.expects), link.ceiling) for link in wanted}
