import io
import json

import pytest
from rich.console import Console
from support.records import SHOWN_AT, shown_record

from swarm.cli.status.picture import bar, cells_of, counts, scale, short_number, show
from swarm.cli.status.served import served_models
from swarm.cli.status.status import as_data
from swarm.cli.status.survey import Health, named_peers
from swarm.errors import UsageFault
from swarm.records import ModelRef, PeerState
from swarm.span import LayerSpan
from swarm.wire.messages import Load

ANSWERED = Health(Load(3, 2, 900, 0.01), 0.0012)


def all_well(records):
    return {each.peer_id: ANSWERED for each in records}


def shown(records, health=None, width=120):
    file = io.StringIO()
    health = health or all_well(records)
    show(served_models(records, health), health, Console(file=file, width=width, highlight=False))
    return file.getvalue()


def test_bars_show_a_cell_a_layer_while_there_is_room():
    assert bar(LayerSpan(2, 5), 8) == "··███···"
    assert counts([1, 2, 0, 12]) == "1209"
    assert scale(24) == "0         10        20  "


def test_many_layers_share_cells_and_the_worst_of_them_counts():
    assert len(cells_of(126)) <= 48
    assert cells_of(126)[-1].stop == 126
    assert bar(LayerSpan(0, 4), 126)[:3] == "█▌·"
    assert counts([2] * 125 + [0])[-1] == "0"


def test_large_numbers_are_short():
    assert [short_number(n) for n in (0, 999, 1000, 12345, 5508352, 66 * 10**8)] == [
        "0",
        "999",
        "1.0k",
        "12k",
        "5.5M",
        "6.6G",
    ]


def test_a_narrow_terminal_leaves_the_addresses_out():
    records = [shown_record(1, 0, 8)]
    assert "192.0.2.7:7701" in shown(records)
    narrow = shown(records, width=80)
    assert "192.0.2.7" not in narrow
    assert max(map(len, narrow.splitlines())) <= 80


@pytest.mark.parametrize("width", [72, 80, 90, 100])
@pytest.mark.parametrize("layers", [24, 126])
def test_a_narrow_terminal_shows_whole_columns_and_fewer_of_them(width, layers):
    records = [shown_record(1, 0, layers, model=ModelRef("large", bytes(32), layers))]
    narrow = shown(records, {records[0].peer_id: Health(None, None, "gone")}, width=width)
    assert "…" not in narrow
    assert f"0-{layers - 1}" in narrow
    assert "no answer" in narrow
    assert max(map(len, narrow.splitlines())) <= width
    assert "state" in narrow


def test_a_hole_is_shown_and_named():
    text = shown([shown_record(1, 0, 3), shown_record(2, 2, 4), shown_record(3, 6, 8)])
    assert "nobody serves layers 4-5" in text
    assert "11210011" in text
    assert "··██····" in text


def test_a_covered_model_says_how_thinly():
    text = shown([shown_record(1, 0, 8), shown_record(2, 0, 4), shown_record(3, 4, 8)])
    assert "every layer is served, the thinnest by 2" in text
    assert "1.2 ms" in text


def test_a_draining_worker_covers_nothing_nor_does_a_silent_one_and_both_say_so():
    records = [shown_record(1, 0, 8, state=PeerState.DRAINING), shown_record(2, 0, 8), shown_record(3, 0, 4)]
    text = shown(records, all_well(records) | {records[1].peer_id: Health(None, None, "gone")})
    assert "draining" in text
    assert "no answer" in text
    assert "11110000" in text
    assert "nobody serves layers 4-7" in text


def test_each_precision_counts_by_itself_because_a_chain_has_one():
    records = [shown_record(1, 0, 4), shown_record(2, 4, 8, precision="fp32")]
    models = served_models(records, all_well(records))
    assert [(served.precision, served.missing) for served in models] == [
        ("bf16", (LayerSpan(4, 8),)),
        ("fp32", (LayerSpan(0, 4),)),
    ]


def test_a_banned_worker_is_marked():
    records = [shown_record(1, 0, 8), shown_record(2, 0, 8)]
    banned = frozenset({records[0].peer_id})
    file = io.StringIO()
    health = all_well(records)
    models = served_models(records, health)
    show(models, health, Console(file=file, width=120, highlight=False), banned)
    assert file.getvalue().count("banned") == 1
    data = as_data(models, health, SHOWN_AT, banned)
    assert sorted(worker["banned"] for worker in data["models"][0]["workers"]) == [False, True]


def test_an_empty_swarm_says_what_to_start():
    assert "swarm worker" in shown([])


def test_the_data_for_programs_is_plain_and_complete():
    records = [shown_record(1, 0, 3), shown_record(2, 2, 4)]
    health = {records[0].peer_id: ANSWERED, records[1].peer_id: Health(None, None, "gone")}
    data = json.loads(json.dumps(as_data(served_models(records, health), health, SHOWN_AT)))
    (model,) = data["models"]
    assert (model["name"], model["layers"], model["missing"]) == ("tiny", 8, ["3-7"])
    assert model["replicas"] == [1, 1, 1, 0, 0, 0, 0, 0]
    first, second = model["workers"]
    assert first["load"] == {"queue_rows": 3, "sessions": 2, "cache_tokens_free": 900, "step_seconds": 0.01}
    assert (first["layers"], first["state"], first["expires_in"]) == ("0-2", "serving", 60.0)
    assert (second["load"], second["error"]) == (None, "gone")


def test_peers_are_named_by_the_first_digits_where_those_suffice():
    records = [shown_record(number, 0, 8) for number in range(1, 4)]
    ids = [each.peer_id for each in records]
    assert named_peers([str(ids[1]), ids[0].short], records) == (ids[1], ids[0])
    with pytest.raises(UsageFault, match="no worker has an id that begins with 00000000"):
        named_peers(["00000000"], records)
    with pytest.raises(UsageFault, match="2 workers"):
        named_peers([ids[0].short], [records[0], records[0]])
