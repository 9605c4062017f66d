import pytest

from swarm.demo.spans import assigned_spans
from swarm.span import LayerSpan, missing_layers


@pytest.mark.parametrize("workers", range(2, 13))
@pytest.mark.parametrize("layers", [1, 6, 24])
def test_every_layer_is_held_twice_and_any_death_can_be_borne(workers, layers):
    spans = assigned_spans(workers, layers)
    assert [sum(layer in span for span in spans) for layer in range(layers)] == [2] * layers
    assert len(spans) == min(workers, 2 * layers)
    for lost in range(len(spans)):
        assert missing_layers(spans[:lost] + spans[lost + 1 :], LayerSpan(0, layers)) == ()


def test_one_worker_cannot_hold_everything_twice():
    with pytest.raises(ValueError, match="2 workers"):
        assigned_spans(1, 24)
