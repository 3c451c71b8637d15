"""What a provider is told of a call's prompt before the call is sent, so that it can use its cache."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import takewhile

from langchain_core.messages import BaseMessage

from bursar.nodes.gateway.prompt_caches.memory import PromptMemory
from bursar.nodes.gateway.prompt_caches.prompt import Prompt
from bursar.nodes.gateway.providers.base import CacheAdvice, ProviderClient
from bursar.nodes.gateway.scope import Scope
from bursar.state.rules.pricing import PricedModel

KEY_CHARACTERS = 32  # of OpenAI's 64


def prompt_of(messages: Sequence[BaseMessage], written: Sequence[str], options: Mapping[str, object]) -> Prompt:
    """Return the prompt of a call. `written` are its messages as JSON.

    Tools are written as they are sent, with the keys of each object in the order given.
    """
    tools = {name: options[name] for name in ("tools", "functions", "response_format") if options.get(name)}
    system = sum(1 for _ in takewhile(lambda message: message.type == "system", messages))
    return Prompt(json.dumps(tools, default=str, ensure_ascii=False) if tools else "", written, system)


def advise(scope: Scope, client: ProviderClient, price: PricedModel, prompt: Prompt, asked: bool | None) -> CacheAdvice:
    """Note that the prompt is sent, and return what the provider needs to know to use its cache.

    Writing pays if the part is expected to be read again often enough for the price (`PricedModel.write_pays`). That
    is learned from the agent's own calls in this process: how many prefixes were read again within five minutes. Before
    anything is known, one in two is expected. If a hit is no cheaper than plain input, nothing is noted.
    """
    name = sha256(json.dumps([scope.tenant, scope.agent, client.name]).encode()).hexdigest()[:KEY_CHARACTERS]
    key = f"bursar-{name}"
    sizes = (prompt.static_size, prompt.size)
    if not price.has_cheaper_hits:
        return CacheAdvice(key, asked, *sizes, static_pays=False, whole_pays=False)
    memory_key = f"{name} {client.base_url or ''}"
    outlook = PromptMemory.of(scope.ledger.database).see(memory_key, scope.agent, prompt, scope.clock())
    static, whole = (
        price.write_pays(prompt.size, again=one.again, of=one.of) for one in (outlook.static, outlook.whole)
    )
    return CacheAdvice(key, asked, *sizes, static_pays=static, whole_pays=whole)
