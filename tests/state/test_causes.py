"""An exception's causes: in order, from whatever it was raised, and bounded."""

from bursar.state.causes import MAX_CAUSES, causes


def test_causes_are_followed_in_order() -> None:
    """What an exception was raised from comes before what was handled when it was raised."""
    first, second, third = KeyError("first"), ValueError("second"), TypeError("third")
    third.__cause__, third.__context__ = second, KeyError("handled")
    second.__context__ = first
    assert list(causes(third)) == [third, second, first]


def test_a_ring_of_causes_ends() -> None:
    """Two exceptions that name each other are followed so far and no further."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert len(list(causes(one))) == MAX_CAUSES
