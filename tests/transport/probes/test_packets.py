from hypothesis import given
from hypothesis import strategies as st

from swarm.transport.probes.packets import COOKIE_SECONDS, MAGIC, PROBE_BYTES, Datagram, Kind, Oracle, Survey

SOURCE = ("192.0.2.1", 4000)
NONCE = b"8 bytes!"


def cookie(oracle: Oracle, source=SOURCE, now: float = 0.0) -> bytes:
    return Datagram.parse(oracle.answer(Datagram(Kind.ASK, NONCE).pack(), source, now)).cookie


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: MAGIC + tail), st.floats(0, 1e9))
def test_nothing_is_amplified_and_nothing_raises(raw, now):
    answer = Oracle(b"secret").answer(raw, SOURCE, now)
    assert answer is None or len(answer) < len(raw)


def test_a_probe_needs_a_cookie_of_its_own_address_and_time():
    oracle = Oracle(b"secret")
    good = Datagram(Kind.PROBE, NONCE, cookie(oracle)).pack()
    assert len(good) == PROBE_BYTES
    assert Datagram.parse(oracle.answer(good, SOURCE, 0.0)) == Datagram(Kind.ECHO, NONCE)
    assert oracle.answer(good, SOURCE, 1.5 * COOKIE_SECONDS) is not None
    assert oracle.answer(good, SOURCE, 2 * COOKIE_SECONDS) is None
    assert oracle.answer(good, ("192.0.2.1", 4001), 0.0) is None
    assert oracle.answer(good, ("192.0.2.2", 4000), 0.0) is None
    assert Oracle(b"another").answer(good, SOURCE, 0.0) is None


def test_only_whole_padded_questions_are_answered():
    oracle = Oracle(b"secret")
    ask = Datagram(Kind.ASK, NONCE).pack()
    for raw in (ask[:-1], ask + b"\0", ask[:50], ask[:-1] + b"x", b"", Datagram(Kind.ECHO, NONCE).pack()):
        assert oracle.answer(raw, SOURCE, 0.0) is None


def test_a_survey_keeps_the_least_round_trip():
    oracle, survey = Oracle(b"secret"), Survey(3)
    for number, (sent, back) in enumerate([(0.0, 0.3), (1.0, 1.1), (2.0, 2.2)]):
        assert not survey.done
        question = survey.next(bytes([number]) * 8, sent)
        assert survey.take(oracle.answer(question, SOURCE, sent), back)
    assert survey.done
    assert abs(survey.best - 0.1) < 1e-9


def test_a_late_answer_still_counts_and_a_foreign_one_does_not():
    oracle, survey = Oracle(b"secret"), Survey(2)
    first = survey.next(b"a" * 8, 0.0)
    survey.next(b"b" * 8, 0.2)
    assert not survey.take(Datagram(Kind.COOKIE, b"x" * 8, bytes(16)).pack(), 0.3)
    assert not survey.take(b"junk", 0.3)
    answer = oracle.answer(first, SOURCE, 0.1)
    assert survey.take(answer, 0.4)
    assert not survey.take(answer, 0.5)
    assert survey.best == 0.4
