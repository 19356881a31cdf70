"""An event loop in which nothing takes time but waiting, and waiting takes none."""

import asyncio
import selectors


class _Skipper(selectors.SelectSelector):
    """Goes on to the next timer at once, where nothing else is to be waited for."""

    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self._loop.now += timeout
        return super().select(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.now = 1000.0
        super().__init__(_Skipper(self))

    def time(self):
        return self.now


def run(coroutine_function):
    """Run `coroutine_function(loop)` to its end in a loop of its own."""
    loop = FakeTimeLoop()
    try:
        return loop.run_until_complete(coroutine_function(loop))
    finally:
        loop.close()
