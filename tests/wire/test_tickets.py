from swarm.identity import Identity
from swarm.wire.tickets import admits, issue

OWNER, OTHER, FIRST, SECOND = (Identity.from_seed(bytes([n]) * 32) for n in range(1, 5))
SESSION = bytes(range(16))


def test_a_ticket_fits_one_session_one_epoch_and_one_predecessor_of_its_owner():
    ticket = issue(OWNER, SESSION, 3, FIRST.peer_id)
    assert admits(ticket, OWNER.peer_id, SESSION, 3, FIRST.peer_id)
    assert not admits(ticket, OTHER.peer_id, SESSION, 3, FIRST.peer_id)
    assert not admits(ticket, OWNER.peer_id, bytes(16), 3, FIRST.peer_id)
    assert not admits(ticket, OWNER.peer_id, SESSION, 4, FIRST.peer_id)
    assert not admits(ticket, OWNER.peer_id, SESSION, 3, SECOND.peer_id)
    assert not admits(bytes(64), OWNER.peer_id, SESSION, 3, FIRST.peer_id)
