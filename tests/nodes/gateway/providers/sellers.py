"""The four protocols side by side: a seller on loopback, a bench with its books, and LangChain's client for it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_ollama import ChatOllama
from langchain_openai import AzureChatOpenAI

from bursar.nodes.gateway.chat_model import MeteredChatModel
from bursar.nodes.gateway.meter import meter
from bursar.nodes.gateway.prices import Price
from tests.nodes.gateway.providers.protocols import CLAUDE, LLAMA, Anthropic, Ollama
from tests.support.bench import SECRET, Bench, make_bench
from tests.support.provider import MODEL, Provider

PROTOCOLS = ("openai", "azure", "anthropic", "ollama")
DEPLOYMENT = "prod-1"


@dataclass(frozen=True)
class Seller:
    """A seller of one protocol, with the books that are kept of it on the bench."""

    protocol: str
    bench: Bench

    @property
    def provider(self) -> Provider:
        """The server."""
        return self.bench.provider

    def chat(self, **settings: Any) -> BaseChatModel:
        """Return LangChain's client for the seller, which is not behind the gateway."""
        root = self.provider.root
        given: dict[str, Any]
        if self.protocol == "azure":
            given = {"azure_endpoint": root, "azure_deployment": DEPLOYMENT, "model": MODEL, "api_key": SECRET}
            given = {**given, "api_version": "2024-10-21", "http_client": self.bench.client, "timeout": 10, **settings}
            return AzureChatOpenAI(**given)
        if self.protocol == "anthropic":
            given = {"model": CLAUDE, "base_url": root, "api_key": SECRET, "timeout": 10, **settings}
            return ChatAnthropic(**given)
        if self.protocol == "ollama":
            given = {"model": LLAMA, "base_url": root, "client_kwargs": {"timeout": 10}, **settings}
            return ChatOllama(**given)
        return self.bench.chat(**settings)

    def model(self, *, allow: set[str] | None = None, **settings: Any) -> MeteredChatModel:
        """Return the client behind the gateway. The price of Ollama's model is given by hand."""
        price = Price(input="0.10", output="0.40") if self.protocol == "ollama" else None
        return meter(self.chat(**settings), price=price, allow=allow or set())

    def caps(self) -> list[int]:
        """Return the output cap of each request that the seller received."""
        return [self.provider.cap(body) for body in self.provider.requests]

    def fields(self) -> Mapping[str, Any]:
        """Return the fields of the last request that the seller received; Ollama's `options` among the others."""
        body = self.provider.requests[-1]
        return {**body, **body.get("options", {})}


def make_seller(protocol: str, url: str) -> Iterator[Seller]:
    """Yield a seller of the protocol with a bench on the database at `url`, and close both when the test ends."""
    provider = {"anthropic": Anthropic, "ollama": Ollama}.get(protocol, Provider)()
    for bench in make_bench(provider, url):
        yield Seller(protocol, bench)
    provider.close()
