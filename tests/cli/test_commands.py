import os
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from swarm import __version__, errors
from swarm.cli import main
from swarm.cli.commands import Guarded

COMMANDS = ("bootstrap", "worker", "client", "status", "top", "demo", "bench", "key")


def test_swarm_alone_says_what_to_do_next():
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 0
    for command in ("swarm demo", "swarm bootstrap", "swarm worker", "swarm client", "swarm status"):
        assert command in result.stdout


def test_every_command_has_help():
    listing = CliRunner().invoke(main, ["--help"]).stdout
    for command in COMMANDS:
        result = CliRunner().invoke(main, [command, "--help"])
        assert result.exit_code == 0
        assert command in listing
        assert "exit-with-stdin" not in result.stdout


def test_version():
    assert CliRunner().invoke(main, ["--version"]).stdout == f"swarm {__version__}\n"


def test_help_is_quick_and_loads_nothing_heavy():
    program = (
        "import sys\nfrom swarm.cli import main\nmain(['--help'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'rich', 'kademlia', 'numpy', 'prompt_toolkit') if name in sys.modules])"
    )
    took = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        took.append(time.perf_counter() - began)
    assert done.stdout.splitlines()[-1] == "[]"
    assert min(took) < 0.5


def test_the_node_of_a_bootstrap_loads_no_torch():
    program = "import sys, swarm.cli.serve; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def guarded(error):
    @click.group(cls=Guarded)
    def group():
        pass

    @group.command()
    def work():
        raise error

    return CliRunner().invoke(group, ["work"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageFault("say it otherwise"), 2),
        (errors.ModelFault("file x"), 3),
        (errors.WrongModel("aa is not bb"), 3),
        (errors.PortInUse("port 7700"), 4),
        (errors.NoSwarm("nobody at 192.0.2.7"), 5),
        (errors.NoChain("layers 3-5 are missing"), 6),
        (errors.DeadlineExceeded("waited"), 7),
        (errors.Overloaded("full"), 8),
        (errors.PeerLost("gone"), 9),
        (errors.AuditFault("they differ"), 10),
        (errors.LocalFault("ours"), 70),
    ],
)
def test_errors_raised_on_purpose_are_a_line_and_an_exit_code(error, code):
    result = guarded(error)
    assert (result.exit_code, result.stderr, result.stdout) == (code, f"swarm: {error}\n", "")


def test_ctrl_c_is_130():
    assert guarded(KeyboardInterrupt()).exit_code == 130


def test_a_bug_shows_its_traceback():
    result = guarded(RuntimeError("bug"))
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--activations", "int16", "--numerics", "native"], "--activations int16: only --numerics portable"),
        (["--cache-precision", "int8", "--numerics", "native"], "--cache-precision int8: only --numerics portable"),
        (["--cache-precision", "int8", "--backend", "transformers"], "only swarm's own engine computes so"),
        (
            ["--activations", "int16", "--precision", "bf16"],
            "weights that are integers, which the plan bf16 has none of",
        ),
        (["--cache-precision", "bf16", "--precision", "int4+cache-int8"], "the plan int4+cache-int8 says int8"),
        (["--activations", "int4"], "'int4' is not one of 'int8', 'int16'"),
    ],
)
def test_what_a_worker_cannot_compute_is_refused_with_its_reason(arguments, words):
    result = CliRunner().invoke(main, ["worker", "--model", "demo", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr


def test_the_help_of_a_worker_says_what_activations_and_caches_there_are():
    shown = CliRunner().invoke(main, ["worker", "--help"]).stdout
    assert "--activations [int8|int16]" in shown
    assert "--cache-precision [bf16|int8]" in shown


@pytest.mark.parametrize("arguments", [["client", "hi"], ["status"]])
def test_without_a_bootstrap_it_says_how_to_name_one(arguments):
    result = CliRunner().invoke(main, arguments, env={"SWARM_BOOTSTRAP": ""})
    assert result.exit_code == 2
    assert "--bootstrap" in result.stderr
    assert "SWARM_BOOTSTRAP" in result.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stdout_that_takes_no_more_is_told_in_a_line(unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "swarm", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (74, "swarm: stdout takes no more: No space left on device\n")
