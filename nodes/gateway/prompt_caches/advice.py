"""What a provider is told of a call's prompt before the call is sent, so that it can use its cache."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import takewhile

from langchain_core.messages import BaseMessage

from bursar.nodes.gateway.prompt_caches.memory import PromptMemory
from bursar.nodes.gateway.prompt_caches.prompt import Prompt
from bursar.nodes.gateway.providers.base import CacheAdvice, ProviderClient
from bursar.state.rules.pricing import PricedModel

KEY_CHARACTERS = 32  # of OpenAI's 64


def prompt_of(messages: Sequence[BaseMessage], written: Sequence[str], options: Mapping[str, object]) -> Prompt:
    """Return the prompt of a call. `written` are its messages as JSON.

    Tools are written as they are sent, with the keys of each object in the order given.
    """
    tools = {name: options[name] for name in ("tools", "functions", "response_format") if options.get(name)}
    system = sum(1 for _ in takewhile(lambda message: message.type == "system", messages))
    return Prompt(json.dumps(tools, default=str, ensure_ascii=False) if tools else "", written, system)


@dataclass(frozen=True, slots=True)
class CallToCache:
    """A call about to be sent: who makes it, to which model at which price, with which prompt.

    `asked` is what `meter` was given as `prompt_cache`.
    """

    tenant: str
    agent: str
    client: ProviderClient
    price: PricedModel
    prompt: Prompt
    asked: bool | None


def advise(memory: PromptMemory, call: CallToCache, at: datetime) -> CacheAdvice:
    """Note that the call is sent, and return what the provider needs to know to use its cache.

    Writing pays if the part is expected to be read again often enough for the price (`PricedModel.write_pays`). That
    is learned from the agent's own calls in this process: how many prefixes were read again within five minutes. Before
    anything is known, one in two is expected. If a hit is no cheaper than plain input, nothing is noted.
    """
    prompt, server = call.prompt, call.client.base_url or ""
    name = sha256(json.dumps([call.tenant, call.agent, call.client.name]).encode()).hexdigest()[:KEY_CHARACTERS]
    advice = CacheAdvice(
        f"bursar-{name}", call.asked, prompt.static_size, prompt.size, static_pays=False, whole_pays=False
    )
    if not call.price.has_cheaper_hits:
        return advice
    outlook = memory.see(f"{name} {server}", call.agent, prompt, at)
    static, whole = (
        call.price.write_pays(prompt.size, again=one.again, of=one.of) for one in (outlook.static, outlook.whole)
    )
    return replace(advice, static_pays=static, whole_pays=whole)
