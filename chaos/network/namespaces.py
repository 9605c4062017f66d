"""Processes in network namespaces of their own, joined by a userland switch: each a machine with a kernel's network to itself.

Linux only, as root, with /dev/net/tun; `missing()` says what is not there. A machine that vanishes sends no FIN and no RST, loss
strikes TCP too, and any two machines can be cut apart. `python -m chaos.network.namespaces NAMESPACE MODULE ARGUMENT…` runs
a module inside one. Knows nothing of swarm.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import runpy
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import NoReturn

from chaos.network.switch import Switch
from chaos.network.weather import WAYS, Lanes, Way
from swarm.errors import UsageFault

CLIENT = "client"  # the name of the machine that this process becomes
MAX_HOSTS = 250
PORT = 7700  # the same on every machine
DEVICE = "chaos0"
QUEUE_PACKETS = 1000

CLONE_NEWNET = 0x40000000  # <sched.h>
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # <linux/if_tun.h>
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFTXQLEN = 0x8914, 0x8916, 0x891C, 0x8943  # <linux/sockios.h>
IFF_UP, IFF_RUNNING = 0x1, 0x40  # <net/if.h>


def missing() -> str | None:
    """Why there are no namespaces here, in words; None where they work."""
    try:
        with ExitStack() as stack:
            for descriptor in _in_thread(lambda: _new_machine(address_of(MAX_HOSTS))):
                stack.callback(os.close, descriptor)
    except (OSError, AttributeError) as error:
        return f"network namespaces need Linux, root and /dev/net/tun: {error}"
    return None


def address_of(number: int) -> str:
    """Every machine is in a /24 of its own."""
    return f"10.77.{number}.1"


class Namespaces:
    """`async with Namespaces(seed)`: this process becomes the machine `client`; `link(name)` makes another.

    Leaving brings this thread back to where it was. Raises UsageFault where there are no namespaces.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.host = address_of(1)
        self.links: list[Wire] = []
        self.switch = Switch()
        self._stack = ExitStack()
        self.sockets = 0  # descriptors held

    async def __aenter__(self) -> Namespaces:
        why = missing()
        if why is not None:
            raise UsageFault(why)
        with self._stack:
            self._hold(before := os.open("/proc/thread-self/ns/net", os.O_RDONLY))
            client = await self.link(CLIENT)
            self._stack.callback(_enter, before)
            _enter(client.namespace)
            self._stack = self._stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.switch.close()
        self._stack.close()

    async def link(self, name: str) -> Wire:
        """A new machine, plugged in."""
        if len(self.links) == MAX_HOSTS - 1:
            raise UsageFault(f"at most {MAX_HOSTS - 1} machines are joined by one switch")
        address = address_of(1 + len(self.links))
        namespace, device = _in_thread(lambda: _new_machine(address))
        self._hold(namespace)
        self._hold(device)
        wire = Wire(self, name, address, namespace)
        self.links.append(wire)
        self.switch.attach(name, address, device, wire)
        return wire

    def _hold(self, descriptor: int) -> None:
        self._stack.callback(os.close, descriptor)
        self.sockets += 1


class Pipes:
    """What the proxy does to single connections, and nobody can do here: connections are the kernels' own."""

    count = 0
    half_open = False  # a machine that is cut off tells nobody of its end anyway

    def reset(self) -> NoReturn:
        raise UsageFault("connections are not reset between namespaces: run this scenario without --namespaces")

    def __setattr__(self, name: str, value: object) -> None:
        if name == "cut_after" and value is not None:
            raise UsageFault("replies are not cut short between namespaces: run this scenario without --namespaces")


class Wire(Lanes):
    """Between one machine and the switch; what a `Link` is to a process behind the proxy."""

    def __init__(self, network: Namespaces, name: str, address: str, namespace: int) -> None:
        super().__init__(network.random)
        self.name = name
        self.host = address
        self.public = self.real = PORT
        self.namespace = namespace  # file descriptor
        self.pipes = Pipes()
        self._network = network

    def command(self, *words: str) -> tuple[str, ...]:
        """What starts the process on this machine: `python` with these words, which begin with -m."""
        option, *rest = words
        assert option == "-m", words
        return ("-m", "chaos.network.namespaces", f"/proc/{os.getpid()}/fd/{self.namespace}", *rest)

    def part(self, others: str, *ways: Way) -> None:
        """Cut apart from the machines whose names begin so, both ways if none is named."""
        self._each(others, ways or WAYS, self._network.switch.cut)

    def rejoin(self, others: str) -> None:
        self._each(others, WAYS, self._network.switch.join)

    def _each(self, others: str, ways: tuple[Way, ...], do: Callable[[str, str], None]) -> None:
        for other in self._network.links:
            if other is not self and other.name.startswith(others):
                for way in ways:
                    do(*((other.name, self.name) if way == "to" else (self.name, other.name)))

    def __repr__(self) -> str:
        return f"<wire of {self.name}, {self.host}>"


def _in_thread(make: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """Threads have namespaces each for himself: what a thread does that ends leaves the others where they are."""
    made: list[tuple[int, int]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:  # raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=work, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return made[0]


def _new_machine(address: str) -> tuple[int, int]:
    """Descriptors of a new namespace and of its only device beside loopback. This thread is in it from now on."""
    _call("unshare", CLONE_NEWNET)
    with ExitStack() as stack:
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        stack.callback(os.close, namespace)
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, device)
        _configure(device, address)
        stack.pop_all()
    return namespace, device


def _configure(device: int, address: str) -> None:
    name = DEVICE.encode()
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name, IFF_TUN | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.0.0")):
            fcntl.ioctl(ask, request, struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(value)))
        fcntl.ioctl(ask, SIOCSIFTXQLEN, struct.pack("16si20x", name, QUEUE_PACKETS))
        for each in (b"lo", name):
            fcntl.ioctl(ask, SIOCSIFFLAGS, struct.pack("16sH22x", each, IFF_UP | IFF_RUNNING))


def _enter(namespace: int) -> None:
    """This thread, and those that it starts from now on."""
    _call("setns", namespace, CLONE_NEWNET)


def _call(name: str, *arguments: int) -> None:
    """A function of the C library. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main() -> None:
    """Enter the namespace and become the module."""
    path, module, *words = sys.argv[1:]
    namespace = os.open(path, os.O_RDONLY)
    _enter(namespace)
    os.close(namespace)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
