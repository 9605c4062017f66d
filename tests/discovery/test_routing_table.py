from random import Random

from kademlia.node import Node
from kademlia.routing import RoutingTable as PackageTable
from support.announcements import identity

from swarm.discovery.keys import distance, node_id
from swarm.discovery.routing_table import MAX_LOST, MAX_SILENT, MAX_STRIKES, SILENT_SECONDS, RoutingTable

K = 8
NOW = 50.0


def node(number, host="192.0.2.1", port=7700):
    return Node(node_id(identity(number).peer_id), host, port)


def make_table(checked=None):
    return RoutingTable(node(0), K, (checked if checked is not None else []).append)


def test_closest_are_the_nearest_of_all_buckets():
    table = make_table()
    for number in range(1, 60):
        table.add_contact(node(number))
    key = node(99).id
    known = sorted(table.contacts(), key=lambda one: distance(one.id, key))
    assert table.closest(key, K) == known[:K]
    assert table.closest(key, K, exclude=known[0].id) == known[1 : K + 1]


def test_closest_are_the_nearest_whatever_the_key_and_whoever_came_and_went():
    table, random = make_table(), Random(1)
    for number in range(1, 300):
        table.add_contact(node(number))
        if number % 3 == 0:
            for _ in range(random.randint(1, MAX_STRIKES)):
                table.strike(node(random.randint(1, number)), NOW)
        key, count = node(random.randrange(400)).id, random.choice((1, K, 3 * K))
        for exclude in (b"", node(random.randint(1, number)).id):
            known = [one for one in table.contacts() if one.id != exclude]
            usable = [one for one in known if one not in table.suspects()] or known
            nearest = sorted(usable, key=lambda one: distance(one.id, key))
            assert table.closest(key, count, exclude) == nearest[:count]


def test_buckets_are_those_of_the_package():
    table, plain = make_table(), PackageTable(None, K, node(0))
    for number in range(1, 600):
        table.add_contact(node(number))
        try:
            plain.add_contact(node(number))
        except AttributeError:  # it would ping the oldest, and has nothing to do so by
            continue
    assert len(table.buckets) > 20
    assert [bucket.range for bucket in table.buckets] == [bucket.range for bucket in plain.buckets]
    assert [list(bucket.nodes) for bucket in table.buckets] == [list(bucket.nodes) for bucket in plain.buckets]
    for number in range(600, 900):
        assert table.get_bucket_for(node(number)) == plain.get_bucket_for(node(number))


def test_we_are_not_our_own_contact():
    table = make_table()
    table.add_contact(node(0, port=1))
    assert list(table.contacts()) == []


def test_a_full_bucket_keeps_who_is_there_and_has_its_oldest_checked():
    checked = []
    table = make_table(checked)
    for number in range(1, 400):
        table.add_contact(node(number))
    assert checked
    assert all(len(bucket) <= K for bucket in table.buckets)
    assert all(table.is_known(one) for one in checked)


def test_who_does_not_answer_is_suspected_then_dropped_and_remembered():
    table = make_table()
    table.add_contact(node(1))
    table.add_contact(node(2, port=2))
    table.strike(node(1), NOW)
    assert [one.id for one in table.suspects()] == [node(1).id]
    assert [one.id for one in table.closest(node(1).id, K)] == [node(2).id]
    table.add_contact(node(1))
    assert table.suspects() == []
    for _ in range(MAX_STRIKES):
        table.strike(node(1), NOW)
    assert table.contact(node(1).id) is None
    assert list(table.lost) == [("192.0.2.1", 7700)]


def test_if_all_are_suspected_they_are_better_than_nobody():
    table = make_table()
    table.add_contact(node(1))
    table.strike(node(1), NOW)
    assert [one.id for one in table.closest(node(1).id, K)] == [node(1).id]


def test_a_lie_about_an_address_neither_moves_nor_strikes_a_contact():
    table = make_table()
    table.add_contact(node(1))
    for _ in range(5):
        table.strike(node(1, host="192.0.2.66"), NOW)
    table.add_contact(node(1, host="192.0.2.66"))
    assert table.contact(node(1).id).same_home_as(node(1))
    table.strike(node(1), NOW)
    table.add_contact(node(1, host="192.0.2.66"))  # it answers there, and no longer where it was
    assert table.contact(node(1).id).ip == "192.0.2.66"


def test_what_is_remembered_of_the_lost_is_bounded():
    table = make_table()
    for number in range(1, 3 * MAX_LOST):
        table.add_contact(node(number, port=number))
        for _ in range(MAX_STRIKES):
            table.strike(node(number, port=number), NOW)
    assert len(table.lost) <= MAX_LOST


def test_thin_levels_are_the_subtrees_of_which_little_is_known():
    table = make_table()
    own = node(0).long_id

    def beside(level, number):
        return Node((own ^ (1 << (159 - level)) ^ number).to_bytes(20, "big"), "192.0.2.1", 1)

    for level, count in ((0, 3), (1, 1), (3, 2)):
        for number in range(count):
            table.add_contact(beside(level, number))
    assert table.thin_levels(2) == [1, 2]
    assert make_table().thin_levels(2) == []


def test_how_many_nodes_there_are_is_told_by_how_near_the_nearest_are():
    table = make_table()
    assert table.estimated_nodes() == 1
    for number in range(1, K):
        table.add_contact(node(number))
    assert table.estimated_nodes() == K
    for number in range(K, 1000):
        table.add_contact(node(number))
    assert len(list(table.contacts())) < 500
    assert 500 < table.estimated_nodes() < 2000


def test_the_silent_are_remembered_for_a_while_or_until_they_speak():
    table = make_table()
    table.strike(node(1), NOW)
    assert table.is_silent(node(1), NOW + SILENT_SECONDS - 1)
    assert not table.is_silent(node(1), NOW + SILENT_SECONDS)
    assert not table.is_silent(node(1, port=2), NOW)
    table.add_contact(node(1))
    assert not table.is_silent(node(1), NOW)
    for number in range(2 * MAX_SILENT):
        table.strike(node(2, port=number), NOW)
    assert len(table._silent) == MAX_SILENT
