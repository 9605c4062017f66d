import asyncio
from random import Random

from chaos.simulation.clock import run_virtual
from chaos.simulation.datagrams import UdpSwitch, damaged

ONE, TWO = "10.0.0.1", "10.0.0.2"
PORT = 7700


class Ear:
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def received(self, data, source):
        self.heard.append(data)


async def joined(switch: UdpSwitch):
    ears = Ear(), Ear()
    sockets = [await switch.opener(host)(ear, host, PORT) for host, ear in zip((ONE, TWO), ears, strict=True)]
    return *sockets, *ears


def carried(prepare, count: int = 200) -> list[int]:
    """Which of so many datagrams arrive, in the order in which they do, after `prepare(switch)`."""

    async def main():
        switch = UdpSwitch(1)
        one, _, _, ear = await joined(switch)
        prepare(switch)
        for number in range(count):
            one.send(number.to_bytes(2, "big"), (TWO, PORT))
            await asyncio.sleep(0.01)
        await asyncio.sleep(5)
        return [int.from_bytes(data, "big") for data in ear.heard]

    return run_virtual(main())


def test_without_faults_everything_arrives_once_and_in_order():
    assert carried(lambda switch: None) == list(range(200))


def test_datagrams_are_lost_doubled_and_overtaken():
    def prepare(switch):
        switch.loss, switch.duplication, switch.jitter = 0.1, 0.2, 0.3

    arrived = carried(prepare)
    assert 0.8 * 200 < len(set(arrived)) < 200
    assert len(arrived) > len(set(arrived))
    assert arrived != sorted(arrived)
    assert arrived == carried(prepare)


def test_damage_flips_a_bit_or_cuts_short():
    random = Random(1)
    data = bytes(range(64))
    for _ in range(200):
        changed = damaged(data, random)
        bits = sum((one ^ other).bit_count() for one, other in zip(data, changed, strict=False))
        assert bits == 1 if len(changed) == len(data) else data.startswith(changed)


def test_a_cut_may_have_one_direction():
    async def main():
        switch = UdpSwitch(1)
        one, two, ear, other = await joined(switch)
        switch.cut(ONE, TWO, both=False)
        one.send(b"there", (TWO, PORT))
        two.send(b"back", (ONE, PORT))
        await asyncio.sleep(1)
        assert (ear.heard, other.heard) == ([b"back"], [])
        switch.mend(ONE, TWO)
        one.send(b"there", (TWO, PORT))
        await asyncio.sleep(1)
        assert other.heard == [b"there"]

    run_virtual(main())


def test_what_comes_during_a_pause_is_heard_after_it():
    async def main():
        switch = UdpSwitch(1)
        one, _, _, ear = await joined(switch)
        switch.pause(TWO)
        one.send(b"early", (TWO, PORT))
        await asyncio.sleep(1)
        assert ear.heard == []
        switch.resume(TWO)
        assert ear.heard == [b"early"]

    run_virtual(main())


def test_nothing_comes_from_a_closed_socket_or_a_dead_host():
    async def main():
        switch = UdpSwitch(1)
        one, two, ear, other = await joined(switch)
        one.close()
        one.send(b"late", (TWO, PORT))
        switch.kill(TWO)
        two.send(b"dead", (ONE, PORT))
        await asyncio.sleep(1)
        assert ear.heard == other.heard == []

    run_virtual(main())
