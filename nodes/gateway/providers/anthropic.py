"""Anthropic as a provider: it adds its own prompt before the tools of a call."""

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.providers.generic import GenericProvider

TOOL_PROMPT_TOKENS = 1_024  # Anthropic's documentation lists 264 to 804


class AnthropicProvider(GenericProvider):
    """The provider of chat models that trace as Anthropic's."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model traces as Anthropic's."""
        return model._get_ls_params().get("ls_provider") == "anthropic"  # pyright: ignore[reportPrivateUsage]

    def hidden_input_tokens(self, tools: int, /) -> int:
        """Return the size of the prompt that explains tools, 0 without tools."""
        return TOOL_PROMPT_TOKENS if tools else 0
