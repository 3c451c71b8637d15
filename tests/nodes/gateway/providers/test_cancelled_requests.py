"""A request that is cancelled, or that fails, leaves no connection and no garbage behind."""

import asyncio
import gc
import weakref

import httpcore2
import pytest

from bursar.nodes.gateway.providers.loop_clients import LoopClients
from tests.nodes.gateway.providers.sellers import Seller
from tests.nodes.gateway.providers.test_loop_clients import AT_ONCE, caller, metered, silent_garbage, stop_clocks


@pytest.mark.parametrize("cancels", [1, 3])
@pytest.mark.parametrize("seller", ["openai"], indirect=True)
def test_a_cancelled_request_loses_no_connection(seller: Seller, cancels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled while its client closes the connections that have expired: each of them is closed."""
    call, now, begun = caller(seller, "chat"), [0.0], asyncio.Event()
    stop_clocks(monkeypatch, now)
    aclose = httpcore2.AsyncHTTPConnection.aclose

    async def closing(connection: httpcore2.AsyncHTTPConnection) -> None:
        begun.set()
        await aclose(connection)

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(AT_ONCE)))
        now[0] += 3600
        monkeypatch.setattr(httpcore2.AsyncHTTPConnection, "aclose", closing)
        task = asyncio.create_task(call())
        await begun.wait()
        for _ in range(cancels):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        with silent_garbage():
            del task

    with silent_garbage():
        metered(seller, lambda: asyncio.run(main()))()
        assert seller.provider.is_left()


def test_a_response_that_nobody_takes_is_closed() -> None:
    """Its request was cancelled when it had come already."""

    class Response:
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    async def main(turns: int) -> tuple[bool, bool]:
        response = Response()

        async def request() -> Response:
            return response

        sending = asyncio.create_task(LoopClients().send(request))
        for _ in range(turns):
            await asyncio.sleep(0)
        sending.cancel()
        [end] = await asyncio.gather(sending, return_exceptions=True)
        return end is response, response.closed

    ends = [asyncio.run(main(turns)) for turns in range(8)]
    assert set(ends) == {(False, False), (False, True), (True, False)}  # not sent; sent and closed; taken
    assert ends[-1] == (True, False)


def test_a_request_that_fails_leaves_no_garbage() -> None:
    """The error and what its frames hold are gone at once, without a collection."""

    class Failed(Exception):
        """What the request raises."""

    async def main() -> weakref.ref[Failed]:
        async def request() -> None:
            raise Failed

        try:
            await LoopClients().send(request)
        except Failed as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()
