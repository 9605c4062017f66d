"""One budget, many who want it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarm.identity import PeerId
from swarm.shares import Holder, Shares


def holder(peer: int, block: int) -> Holder:
    return Holder(PeerId(bytes([peer]) * 32), bytes([127, 0, block]))


def fill(shares: Shares, who: Holder, amount: int = 1) -> int:
    """Take until it is refused; how much that was."""
    taken = 0
    while shares.refusal(who, amount) is None:
        shares.take(who, amount)
        taken += amount
    return taken


def test_who_is_alone_gets_its_share_and_a_block_more_than_a_peer() -> None:
    shares = Shares(1000, peer_share=0.75, block_share=0.875)
    assert fill(shares, holder(1, 1)) == 750
    assert fill(shares, holder(2, 1)) == 125
    assert "your address block holds 875" in (shares.refusal(holder(2, 1), 1) or "")
    assert "you hold 750" in (shares.refusal(holder(1, 1), 1) or "")


def test_there_is_room_for_who_comes_next() -> None:
    shares = Shares(1000, peer_share=0.75, block_share=0.875)
    for peer in range(100):
        fill(shares, holder(peer, 1))  # as many keys as it likes
    assert fill(shares, holder(200, 2)) >= 90
    assert shares.refusal(holder(201, 3), 1) is None


def test_the_first_may_be_as_large_as_what_is_free() -> None:
    shares = Shares(100, peer_share=0.75, block_share=0.875)
    assert shares.refusal(holder(1, 1), 101) == "0 of 100 are taken"
    assert shares.refusal(holder(1, 1), 100) is None
    shares.take(holder(1, 1), 100)
    assert shares.refusal(holder(2, 2), 1) == "100 of 100 are taken"
    shares.give(holder(1, 1), 100)
    assert repr(shares) == "Shares(0 of 100, peers=0, blocks=0)"


def test_a_share_of_one_is_no_limit() -> None:
    assert fill(Shares(10, peer_share=1.0, block_share=1.0), holder(1, 1)) == 10


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 30)), max_size=60))
def test_what_is_given_back_can_be_taken_again(wanted: list[tuple[int, int, int]]) -> None:
    shares, taken = Shares(100, 0.75, 0.875), []
    for peer, block, amount in wanted:
        who = holder(peer, block)
        if shares.refusal(who, amount) is None:
            shares.take(who, amount)
            taken.append((who, amount))
        assert shares.used == sum(amount for _, amount in taken) <= 100
    for who, amount in taken:
        shares.give(who, amount)
    assert (shares.used, shares.of_peer(holder(0, 0))) == (0, 0)
