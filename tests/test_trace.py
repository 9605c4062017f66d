"""One hook: what listeners hear, and when."""

from __future__ import annotations

import logging

import pytest

from swarm.trace import Event, Trace, log_to


def test_listeners_hear_events_until_they_leave() -> None:
    heard: list[str] = []
    trace = Trace()
    trace.started("nobody.listens")
    leave = trace.listen(lambda event: heard.append(str(event)))
    trace.started("worker.step", rows=3)
    trace.complete("worker.step", name="kept")
    leave()
    trace.failed("worker.step")
    assert heard == ["worker.step started rows=3", "worker.step complete name=kept"]


def test_a_listener_may_leave_while_it_is_told() -> None:
    heard: list[Event] = []
    trace = Trace()

    def once(event: Event) -> None:
        heard.append(event)
        leave()

    leave = trace.listen(once)
    trace.listen(heard.append)
    trace.started("a")
    trace.complete("a")
    assert [event.phase for event in heard] == ["started", "started", "complete"]


def test_a_span_tells_how_it_ended() -> None:
    heard: list[Event] = []
    trace = Trace(heard.append)
    with trace.span("session.open", peer="ab"):
        pass
    with pytest.raises(KeyError), trace.span("session.open"):
        raise KeyError("gone")
    assert [event.phase for event in heard] == ["started", "complete", "started", "failed"]
    assert heard[-1].details == {"error": "KeyError('gone')"}


def test_failures_are_warnings_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace(log_to(logging.getLogger("swarm.test")))
    with caplog.at_level(logging.DEBUG, "swarm.test"):
        trace.complete("a.b")
        trace.failed("a.c", error="x")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("DEBUG", "a.b complete"),
        ("WARNING", "a.c failed error=x"),
    ]
