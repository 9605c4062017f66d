import os
import subprocess
import sys

import pytest

from swarm.cli.answer.request import Request
from swarm.cli.models import demo_directory, known_models, model_directory, only_model, served_model
from swarm.config import ClientConfig
from swarm.errors import UsageFault
from swarm.records import ModelRef

TINY = ModelRef("tiny", bytes(32), 4)
OTHER = ModelRef("other", bytes(32), 4)
DEMO = ModelRef("demo", bytes(32), 24)


def test_options_reach_the_sampler_and_what_is_not_said_stays_as_it_is():
    options = Request(
        temperature=0.5,
        top_k=4,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.2,
        seed=3,
        max_tokens=9,
        stop=("a",),
        stop_ids=((1, 2),),
    ).options()
    sampling = options.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 4, 0.9, 0.1)
    assert (sampling.repetition_penalty, sampling.seed) == (1.2, 3)
    assert (options.max_tokens, options.stop, options.stop_ids) == (9, ("a",), ((1, 2),))
    plain = Request().options()
    assert plain.sampling.temperature == 0.0
    assert plain.max_tokens == 256


def test_without_a_seed_one_is_drawn_for_the_whole_run():
    request = Request()
    assert request.options().sampling.seed == request.options().sampling.seed == request.drawn_seed
    assert len({Request().drawn_seed for _ in range(5)}) > 1


def test_the_timeout_holds_for_opening_and_for_every_step():
    config = Request(timeout=2.5).client_config()
    assert (config.open_seconds, config.deadline_seconds) == (2.5, 2.5)
    assert Request().client_config().deadline_seconds > 60


def test_the_share_of_audits_is_the_librarys_unless_it_is_said():
    config = Request(audit=0.5, audit_private=True, timeout=2.5).client_config()
    assert (config.audit_share, config.audit_private, config.deadline_seconds) == (0.5, True, 2.5)
    assert Request().client_config() == ClientConfig()
    assert ClientConfig().audit_share == 0.05


@pytest.fixture
def models(tmp_path):
    for name in ("tiny", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    return tmp_path


def test_models_are_found_by_path_by_name_and_demo_is_there(models):
    assert model_directory("tiny", models) == models / "tiny"
    assert model_directory(str(models / "tiny"), None) == models / "tiny"
    assert model_directory("demo", models) == demo_directory()
    assert sorted(known_models(models)) == ["demo", "other", "tiny"]
    with pytest.raises(UsageFault, match="other"):
        model_directory("absent", models)


def test_the_only_model_is_taken_where_none_is_named(models, tmp_path_factory):
    assert only_model(tmp_path_factory.mktemp("empty")) == "demo"
    with pytest.raises(UsageFault, match=r"several models are here.*tiny"):
        only_model(models)


def test_what_is_served_and_known_is_taken_if_it_is_one(models, tmp_path_factory):
    assert served_model([TINY, TINY], models) == "tiny"
    assert served_model([DEMO], tmp_path_factory.mktemp("empty")) == "demo"
    with pytest.raises(UsageFault, match="name one of other, tiny"):
        served_model([TINY, OTHER], models)
    with pytest.raises(UsageFault, match="serves unheard-of"):
        served_model([ModelRef("unheard-of", bytes(32), 2)], models)
    with pytest.raises(UsageFault, match="no model yet"):
        served_model([], models)


def test_a_terminal_that_cannot_show_a_character_is_no_reason_to_fail():
    program = (
        "import sys; from swarm.cli.commands import swarm as main\n"
        "@main.command()\n"
        "def show(): sys.stdout.write('\u2588 \xe9')\n"
        "main(['show'])"
    )
    environment = os.environ | {"PYTHONIOENCODING": "latin-1:strict"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"? \xe9"
