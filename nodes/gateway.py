"""The gateway: the only door to a model. `meter` puts a chat model behind it."""

from langchain_core.language_models import BaseChatModel

from bursar.nodes.bounds import write_identity
from bursar.nodes.clients import client_of, known_max_output_tokens
from bursar.nodes.metered import MeteredChatModel, Terms, check_price, settings_of
from bursar.nodes.prices import Price
from bursar.state.errors import ConfigurationError, Refused

__all__ = ["MeteredChatModel", "Price", "meter"]

DEFAULT_MIN_OUTPUT_TOKENS = 64


def meter(
    model: BaseChatModel,
    *,
    price: Price | None = None,
    min_output_tokens: int = DEFAULT_MIN_OUTPUT_TOKENS,
    max_output_tokens: int | None = None,
) -> MeteredChatModel:
    """The model behind the gateway: every call is held, sent and settled, within what its session may spend.

    A call's output cap is what its caller asks for, or `max_output_tokens` (by default what the model's profile says),
    lowered to what the money left can pay; below `min_output_tokens` the call is refused instead. `price` takes the
    place of genai-prices. The model itself is left as it is; metering a metered model changes nothing.

    Raises `UnknownPrice` without a price, `ConfigurationError` when the model takes no output cap or is billed in a way
    that has no bound.
    """
    if isinstance(model, MeteredChatModel):
        return model
    if not isinstance(model, BaseChatModel):  # pyright: ignore[reportUnnecessaryIsInstance] - a binding looks like one
        raise ConfigurationError(f"meter takes a chat model, not {type(model).__name__}; meter the model, then bind")
    if min_output_tokens < 1 or (max_output_tokens is not None and max_output_tokens < 1):
        raise ConfigurationError("min_output_tokens and max_output_tokens must be at least 1")
    client = client_of(model)
    check_price(client, price)
    try:
        identity = write_identity(settings_of(client.model))
    except Refused as refusal:
        raise ConfigurationError(str(refusal)) from None
    maximum = max_output_tokens or known_max_output_tokens(model)
    return MeteredChatModel.wrap(model, Terms(client, identity, price, min_output_tokens, maximum))
