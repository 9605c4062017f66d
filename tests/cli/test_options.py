import pytest
from click.testing import CliRunner

from swarm.cli import main
from swarm.cli.options import ADDRESS, SHORTEST, parse_chain, parse_host, parse_ids, parse_size
from swarm.config import parse_address
from swarm.errors import UsageFault

PEER = "ab" * 32


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7:7800", ("192.0.2.7", 7800)),
        ("192.0.2.7", ("192.0.2.7", 7700)),
        ("[2001:db8::7]:7800", ("2001:db8::7", 7800)),
        ("[2001:db8::7]", ("2001:db8::7", 7700)),
        (" rendezvous.example:1 ", ("rendezvous.example", 1)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":7700", "host:", "host:0", "host:65536", "2001:db8::7", "a b:1", "[::1]:x", "h:1:2"]
)
def test_no_addresses(text):
    with pytest.raises(UsageFault, match="HOST:PORT"):
        parse_address(text)


def test_addresses_in_a_variable_stand_between_commas_or_spaces():
    assert ADDRESS.split_envvar_value("a:1, b:2  c:3,d:4") == ["a:1", "b:2", "c:3", "d:4"]


def test_sizes():
    assert parse_size("4GB") == 4 * 10**9
    assert parse_size("512 MiB") == 512 << 20


def test_stop_ids():
    assert parse_ids("5") == (5,)
    assert parse_ids("5, 17,3") == (5, 17, 3)
    for text in ("", "5,", "-1", "x", "5 6"):
        with pytest.raises(UsageFault, match="token ids"):
            parse_ids(text)


def test_chains():
    assert parse_chain("auto") == parse_chain("AUTO") == ()
    assert parse_chain("Shortest") == SHORTEST
    assert parse_chain(f"{PEER},ABCDEF01") == (PEER, "abcdef01")
    for text in ("", "abc", "zzzzzzzz", f"{PEER},", "ab" * 33):
        with pytest.raises(UsageFault, match="auto, shortest, or peer ids"):
            parse_chain(text)


def test_hosts_are_numeric():
    assert parse_host("::") == "::"
    assert parse_host("127.0.0.1") == "127.0.0.1"
    with pytest.raises(UsageFault, match=r"localhost.*numeric"):
        parse_host("localhost")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["worker"], "--model"),
        (["worker", "--model", "demo", "--layers", "20-10"], "'20-10' is no range of layers"),
        (["worker", "--model", "demo", "--max-memory", "much"], "'much' is no amount of memory"),
        (["worker", "--model", "demo", "--precision", "int3"], "fp32"),
        (["worker", "--model", "demo", "--port", "70000"], "--port"),
        (["worker", "--model", "demo", "--host", "localhost"], "numeric"),
        (["bootstrap", "--bootstrap", "nowhere:x"], "HOST:PORT"),
        (["client", "--chain", "me", "hi"], "peer ids"),
        (["client", "--temperature", "-1", "hi"], "--temperature"),
        (["client", "--audit", "2", "hi"], "--audit"),
        (["client", "--local", "--model", "demo", "--chain", "ab" * 32, "hi"], "use one of them"),
        (["client", "--local", "--model", "demo", "--exact-class", "portable-1:bf16", "hi"], "--exact-class"),
        (["client", "--local", "--model", "demo", "--precision", "0-3=bf16", "hi"], "says nothing of layers 4-"),
        (["worker", "--model", "demo", "--precision", "0-3=bf16,3-23=int4"], "layer 3 twice"),
        (["worker", "--model", "demo", "--precision", "0-3=bf16,4-30=int4"], "the model has 24 layers"),
        (["client", "--stop-id", "x", "hi"], "token ids"),
        (["demo", "--workers", "1"], "--workers"),
        (["demo", "--workers", "13"], "--workers"),
        (["juggle"], "juggle"),
    ],
)
def test_bad_options_are_named(arguments, named):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert result.stdout == ""
