"""llama-perplexity's rule."""

import pytest

from swarm.bench.quality.windows import Window, windows_of
from swarm.errors import UsageFault


def test_windows_do_not_overlap_and_what_is_left_over_is_left_out() -> None:
    assert windows_of(range(19), 8, 9, None) == [Window(tuple(range(8))), Window(tuple(range(8, 16)))]


def test_the_second_half_is_judged_less_its_first_token() -> None:
    """As llama.cpp's perplexity.cpp has it: rows from n_ctx / 2 on, each by the token after it."""
    window = Window(tuple(range(100, 108)))
    assert window.first == 4
    assert window.judged == (105, 106, 107)


def test_each_window_begins_as_a_text_does() -> None:
    assert [window.ids[0] for window in windows_of(range(16), 8, 9, 77)] == [77, 77]


def test_no_more_than_were_asked_for() -> None:
    assert len(windows_of(range(100), 8, 3, None)) == 3


def test_a_text_that_is_too_short_is_named() -> None:
    with pytest.raises(UsageFault, match="7 tokens"):
        windows_of(range(7), 8, 3, None)
