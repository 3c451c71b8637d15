"""Anthropic as a provider: it adds its own prompt before the tools of a call."""

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.providers.generic import GenericProvider

TOOL_PROMPT_TOKENS = 1_024  # Anthropic's documentation lists 264 to 804


class AnthropicProvider(GenericProvider):
    """The provider of chat models that name Anthropic as their provider in traces (`ls_provider`)."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """Whether the model names Anthropic as its provider in traces."""
        return model._get_ls_params().get("ls_provider") == "anthropic"  # pyright: ignore[reportPrivateUsage]

    def hidden_input_tokens(self, tools: int, /) -> int:
        """Return a bound of the tokens of the prompt by which Anthropic explains tools to a model; 0 without tools."""
        return TOOL_PROMPT_TOKENS if tools else 0
