from random import Random

import pytest

from chaos.simulation import scale
from swarm.routing.cost import Measurement
from swarm.span import LayerSpan


def test_a_small_crowd_is_measured_alike_each_time():
    told = []
    found = scale.measure(16, tell=told.append)
    assert found == scale.measure(16)
    assert "announced: 16 of 16" in told
    assert found.found_excess == found.chain_excess
    assert found.crowded_share == 0.0
    assert found.lookup_share == found.later_share == found.layers_covered == 1.0
    assert found.vanished_share > 0.9
    assert found.later_dead_share == 0.0
    assert found.lookup_seconds < found.join_seconds < 5.0
    assert "living found" in str(found)
    assert "| peers | 16 | 16 |\n|---|---|---|\n| joining |" in scale.page([found, found])


def test_no_chain_is_shorter_than_the_shortest():
    records = scale.crowd_of_records(scale.LEAST_ROUTED, Random(7))
    everybody = {record.peer_id for record in records}
    few = {record.peer_id for record in records[::2]}
    of_all, of_found = scale.chain_excess(records, Random(7), [everybody, everybody, few])
    assert all(0.0 <= each < 2.0 for each in [*of_all, *of_found])
    assert of_all[:2] == of_found[:2]
    assert of_all[2] != of_found[2]


def test_the_shortest_chain_of_one_worker_is_its_own():
    (drawn,) = scale.crowd_of_records(1, Random(7))
    record = drawn.again(1, 60.0, span=LayerSpan(0, scale.LAYERS), tokens_per_second=10.0)
    assert scale.shortest([record], {record.peer_id: Measurement(0.2)}) == pytest.approx(0.3)


@pytest.mark.soak
def test_a_thousand_peers():
    found = scale.measure(1000)
    assert found.lookup_share > 0.99
    assert found.vanished_share > 0.95
    assert found.layers_covered == 1.0
