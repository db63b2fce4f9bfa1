"""waiting.py: for tests that watch another program from outside, where nothing tells them when it is done: its socket, its
answer over the network, its state in /proc. They ask again until it is so; how long that takes is no test's business, and
the deadline only ends a test that would wait for ever."""

import time

DEADLINE_SECONDS = 20
PAUSE_SECONDS = 0.005  # leaves the processor to what is waited for


def wait_until(what, predicate):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not predicate():
        assert time.monotonic() < deadline, f'this did not come: {what}'
        time.sleep(PAUSE_SECONDS)
