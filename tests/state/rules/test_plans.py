"""What starts for the money left; and how large a raise is asked for: no more than the accounts above have."""

import pytest

from bursar.state.rules.plans import allowance, may_start, raise_for


def test_a_step_starts_if_what_it_is_expected_to_cost_is_left() -> None:
    """To the nano-dollar; one that may pay needs something to pay with, one that may not needs nothing."""
    assert may_start(expected=5, left=5, pays=True)
    assert not may_start(expected=6, left=5, pays=True)
    assert may_start(expected=0, left=1, pays=True)
    assert not may_start(expected=0, left=0, pays=True)
    assert may_start(expected=0, left=0, pays=False)
    assert not may_start(expected=0, left=-1, pays=False)


def test_a_step_may_spend_its_ceiling_or_what_is_left() -> None:
    """Whichever is less."""
    assert allowance(ceiling=5, left=9) == allowance(ceiling=9, left=5) == 5


@pytest.mark.parametrize(
    ("needs", "wants", "room", "above", "amount"),
    [
        (5, 20, 0, None, 20),  # all that the step may spend
        (5, 20, 4, None, 16),  # it has some of it
        (5, 20, 4, 100, 16),
        (5, 20, 4, 10, 6),  # no more than there is above
        (5, 20, 4, 5, 1),  # just enough
        (5, 20, 4, 4, 0),  # nothing above
        (5, 20, 4, 3, 0),  # above is tighter than the request
        (8, 20, 4, 7, 0),  # the step could not go on with it
        (5, 20, 20, None, 0),  # it has all that it wants
        (5, 20, -3, None, 23),  # overdrawn
        (2, 20, 4, 3, 0),  # a raise lowers nothing
    ],
)
def test_the_raise_lets_the_step_go_on(needs: int, wants: int, room: int, above: int | None, amount: int) -> None:
    """With the raise it has what it needs, and no more than it wants and there is; otherwise nobody is asked."""
    assert raise_for(needs=needs, wants=wants, room=room, above=above) == amount
