"""Anthropic: it writes a prompt of its own before the tools of a call."""

from langchain_core.language_models import BaseChatModel

from bursar.nodes.gateway.providers.generic import GenericProvider

TOOL_PROMPT_TOKENS = 1_024  # Anthropic's documentation lists 264 to 804


class AnthropicProvider(GenericProvider):
    """A chat model that says it is served by Anthropic."""

    def matches(self, model: BaseChatModel, /) -> bool:
        """A model that traces as Anthropic's."""
        return model._get_ls_params().get("ls_provider") == "anthropic"  # pyright: ignore[reportPrivateUsage]

    def hidden_input_tokens(self, tools: int, /) -> int:
        """The prompt that explains tools, if there are any."""
        return TOOL_PROMPT_TOKENS if tools else 0
