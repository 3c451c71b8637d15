"""The SDK clients inside a model: they do not retry, and their HTTP clients belong to the event loop that uses them.

Known are the SDKs of OpenAI, Azure and Anthropic, others that are built alike, such as Groq's, and Ollama's. The client
of another SDK stays as it is, and so does an HTTP client that the application made.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable

from pydantic import BaseModel

from bursar.nodes.gateway.providers.loop_clients import routed

LIBRARY_MADE = "HttpxClientWrapper"  # how the classes' names end by which SDKs and LangChain make their HTTP clients
PROXIES = ("openai_proxy", "anthropic_proxy")  # settings of models; with one, the library makes the HTTP client
MADE_LATE = ("_client", "_async_client")  # of `ChatAnthropic`: the first use makes them
OLLAMA_SETTINGS = {"_client": "sync_client_kwargs", "_async_client": "async_client_kwargs"}
OBJECTS = frozenset({"transport", "mounts"})  # settings of an HTTP client that are objects of the application


@runtime_checkable
class _SDKClient(Protocol):
    """An SDK's client whose retries can be set, as those of openai, anthropic and groq."""

    max_retries: int

    def with_options(self, **options: Any) -> object: ...


@dataclass(frozen=True, slots=True)
class Connecting:
    """How the HTTP clients of a model connect. Models that connect alike share a client."""

    proxy: str | None
    socket_options: tuple[tuple[object, ...], ...]

    @classmethod
    def of(cls, model: BaseModel) -> "Connecting":
        """Return how the model's settings say that it connects."""
        proxies = [_setting(model, name) for name in PROXIES]
        options = cast("list[tuple[object, ...]]", _setting(model, "http_socket_options") or [])
        return cls(next((url for url in proxies if isinstance(url, str) and url), None), tuple(map(tuple, options)))

    def make(self, kind: Any) -> object:
        """Return a new HTTP client of the class `kind`."""
        if not self.socket_options:
            return kind() if self.proxy is None else kind(proxy=self.proxy)
        names = [one.__module__ for one in kind.__mro__ if one.__name__ in {"AsyncClient", "Client"}]
        library = import_module(names[0])
        transport = library.AsyncHTTPTransport if hasattr(kind, "aclose") else library.HTTPTransport
        limits = import_module("openai").DEFAULT_CONNECTION_LIMITS  # only langchain-openai has socket options
        return kind(transport=transport(proxy=self.proxy, limits=limits, socket_options=[*self.socket_options]))


@dataclass(frozen=True, slots=True)
class _OllamaConnecting:
    """How the HTTP clients of a model of Ollama connect: `sdk` makes them, for `host`, with `settings`."""

    sdk: Any
    host: str
    settings: Mapping[str, object] = field(hash=False)  # has no hash, but is compared

    def make(self) -> object:
        """Return a new HTTP client."""
        return self.sdk(host=self.host, **self.settings)._client


def client_once(value: object, connecting: Connecting) -> object:
    """Return the SDK client `value` or, if `value` is a part of an SDK client, that part, without retries.

    If a library made its HTTP client, it sends by the HTTP client of the running loop. Another value is returned as it
    is.
    """
    if isinstance(value, _SDKClient):
        given: dict[str, object] = {} if value.max_retries == 0 else {"max_retries": 0}
        http: object = getattr(value, "_client", None)
        kind = _kind(http, connecting)
        if kind is not None:
            given["http_client"] = routed(http, kind, key=(kind, connecting), make=partial(connecting.make, kind))
        return value.with_options(**given) if given else value
    owner = getattr(value, "_client", None)
    if isinstance(owner, _SDKClient):  # a resource such as `client.chat.completions`
        once = client_once(owner, connecting)
        return value if once is owner else type(value)(once)  # type: ignore[call-arg]
    return value


def route_hidden_clients(model: BaseModel) -> None:
    """Make the SDK clients of the model that are in none of its fields send by the HTTP client of the running loop."""
    for name in MADE_LATE:
        if isinstance(getattr(type(model), name, None), cached_property):
            vars(model)[name] = client_once(getattr(model, name), Connecting.of(model))
        elif name in (model.__pydantic_private__ or {}):
            setattr(model, name, _ollama_routed(model, name))


def _kind(http: object, connecting: Connecting) -> type | None:
    """Return the class by which a library makes HTTP clients, None if `http` was made by the application."""
    kinds = [one for one in type(http).__mro__ if not one.__name__.endswith(LIBRARY_MADE)]
    by_library = kinds[0] is not type(http) or (connecting.proxy is not None and hasattr(http, "send"))
    return kinds[0] if by_library else None


def _ollama_routed(model: BaseModel, name: str) -> object:
    """Return the model's client of Ollama's SDK. Without one, return what the model has under this name."""
    client: Any = getattr(model, name)
    if not type(client).__module__.startswith("ollama."):
        return client
    given = [_setting(model, setting) for setting in ("client_kwargs", OLLAMA_SETTINGS[name])]
    settings = {key: value for some in given if isinstance(some, dict) for key, value in cast(Any, some).items()}
    if OBJECTS & settings.keys():
        return client
    connecting = _OllamaConnecting(type(client), str(client._client.base_url), settings)
    own = copy(client)
    own._client = routed(client._client, type(client._client), key=connecting, make=connecting.make)
    return own


def _setting(model: BaseModel, name: str) -> object:
    return getattr(model, name, None)
