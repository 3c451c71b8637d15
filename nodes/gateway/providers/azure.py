"""Azure OpenAI as a provider: a deployment answers, and only its owner knows which model that is."""

from collections.abc import Mapping
from dataclasses import replace

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.providers.base import ProviderClient
from bursar.nodes.gateway.providers.fields import COMMON_FIELDS
from bursar.nodes.gateway.providers.generic import ancestry, own_fields, setting
from bursar.nodes.gateway.providers.openai import OpenAIProvider

NAMES = frozenset({"model", "model_name"})
PRICE_HINT = (
    ". Azure does not say which model its deployment {deployment!r} has: name it, for example "
    "AzureChatOpenAI(azure_deployment={deployment!r}, model='gpt-4o-mini', …)"
)


class AzureProvider(OpenAIProvider):
    """The provider of chat models whose class inherits from `AzureChatOpenAI`.

    The address of a deployment decides which model answers. A call that names another model changes nothing at Azure,
    so it must not change the price either: it is refused.
    """

    allowed_fields = COMMON_FIELDS - NAMES

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model's class inherits from `AzureChatOpenAI`."""
        return "AzureChatOpenAI" in ancestry(model)

    def prepare(self, model: BaseChatModel, /) -> ProviderClient:
        """Return the client of `OpenAIProvider.prepare`.

        If the model was made with a deployment alone, the price list is not asked: the deployment's name may be that of
        another model than the one that it has.
        """
        client, deployment = super().prepare(model), setting(model, "deployment_name")
        if setting(model, "model_name"):
            endpoint = setting(model, "azure_endpoint")
            return replace(client, base_url=client.base_url or (endpoint if isinstance(endpoint, str) else None))
        return replace(client, seller=None, base_url=None, price_hint=PRICE_HINT.format(deployment=deployment))

    def own_fields(self, model: BaseChatModel) -> Mapping[str, object]:
        """Return the fields that the model adds to every request, without the name by which it is priced."""
        return {name: value for name, value in own_fields(model).items() if name not in NAMES}
