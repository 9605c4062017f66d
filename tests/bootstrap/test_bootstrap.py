import shlex
from pathlib import Path

import pytest

from swarm.cli.commands import bootstrap
from swarm.config import parse_address
from swarm.identity import PeerId

FOLDER = Path(__file__).resolve().parent.parent.parent / "bootstrap"


def entries(text):
    """The public list's fields."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split(maxsplit=2) for line in lines]


def test_the_public_list_is_well_formed():
    for address, peer, operator in entries((FOLDER / "public.txt").read_text()):
        parse_address(address)
        PeerId.parse(peer)
        assert operator


def test_the_lists_form_is_what_its_head_says():
    line = "# none\n\n192.0.2.7:7700  " + "ab" * 32 + "  Someone, someone@example.org\n"
    assert entries(line) == [["192.0.2.7:7700", "ab" * 32, "Someone, someone@example.org"]]


def commands():
    """What the unit and the container run, as arguments of `swarm bootstrap`."""
    unit = (FOLDER / "swarm-bootstrap.service").read_text()
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    yield shlex.split(start.partition("=")[2])[1:]
    container = (FOLDER / "Containerfile").read_text()
    entry = next(line for line in container.splitlines() if line.startswith("ENTRYPOINT "))
    yield [part.strip(' "') for part in entry.partition("[")[2].rstrip("]").split(",")][1:]


@pytest.mark.parametrize("arguments", list(commands()))
def test_unit_and_container_run_a_command_that_exists(arguments):
    assert arguments[0] == "bootstrap"
    context = bootstrap.make_context("bootstrap", arguments[1:])
    assert context.params["port"] == 7700
    assert context.params["key"].name == "bootstrap.key"
