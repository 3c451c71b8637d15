"""Which fields of a request may be sent: those whose cost the hold covers, wherever a caller puts them.

A hold covers the bytes of a request and its output cap, at the price of the model, the tier and the number of answers
that the gateway knows. A field that is not listed may cost more than that, so it is refused by its name; `meter(model,
allow=…)` allows it. A field that decides what is priced must not hide in `extra_body` or `model_kwargs`, where it would
win over the field that was priced.
"""

from collections.abc import Collection, Mapping
from typing import cast

from bursar.state.refusals import Refused

CAP_OPTIONS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
HIDING_PLACES = ("extra_body", "model_kwargs")
UNBOUNDED: Mapping[str, str] = {
    **dict.fromkeys(("audio", "modalities"), "answers in sound have their own prices"),
    "prediction": "rejected tokens are billed as output beyond the cap",
    **dict.fromkeys(
        ("web_search_options", "mcp_servers", "container", "plugins"), "the provider charges its own tools"
    ),
    **dict.fromkeys(
        ("previous_response_id", "conversation", "prompt", "context_management"),
        "the tokens that the provider keeps are not counted here",
    ),
    **dict.fromkeys(("best_of", "models", "route"), "the provider may bill more answers, or another model"),
}
# These decide what is priced: the gateway reads them from the call or the model, and nowhere else.
PRICED = frozenset(
    {"model", "model_name", "n", "service_tier", "messages", "input", "system", "instructions", "tools", "functions"}
    | {"stream", "stream_options", *CAP_OPTIONS}
)
# They add no tokens, or only those of their own bytes, which the input bound counts.
COMMON_FIELDS = frozenset(
    PRICED
    | {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "random_seed",
        "stop",
        "stop_sequences",
        "logprobs",
        "logit_bias",
    }
    | {"presence_penalty", "frequency_penalty", "repetition_penalty", "repeat_penalty"}
    | {"tool_choice", "parallel_tool_calls", "function_call", "strict", "response_format", "format", "text"}
    | {
        "thinking",
        "reasoning",
        "reasoning_effort",
        "reasoning_format",
        "verbosity",
        "effort",
        "output_config",
        "thinking_budget",
        "thinking_level",
    }
    | {"user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    | {"prompt_cache_options", "cache_control", "include", "truncation", "safe_prompt", "safety_settings"}
    | {"stream_usage", "timeout", "use_responses_api", "output_version"}  # the client's own, which it does not send
    | {"ls_structured_output_format"}  # LangChain's own, for the trace
)


def check_fields(fields: Mapping[str, object], allowed: Collection[str], *, cap_option: str) -> None:
    """Raise `Refused`, naming the field, unless every field that has a value may be sent.

    `allowed` names the fields that may be sent; `cap_option`, which caps the output, may be sent too. `fields` are
    those of a call, or the settings of a model that become fields. If `extra_body` or `model_kwargs` is among them, the
    fields inside it are checked: there no field that decides the price or the cap may be sent.
    """
    for name, value in fields.items():
        if name in HIDING_PLACES:
            _check_hidden(name, value, allowed, cap_option)
        elif value is not None and name != cap_option:
            _check(name, value, allowed)


def check_allow(allow: Collection[str]) -> None:
    """Raise `Refused` for a name in `allow` that no hold can cover."""
    for name in sorted(allow):
        if name in UNBOUNDED or name in HIDING_PLACES:
            raise Refused(f"{name!r} cannot be allowed: {UNBOUNDED.get(name, 'allow the fields inside it by name')}")


def _check_hidden(place: str, fields: object, allowed: Collection[str], cap_option: str) -> None:
    for name, value in cast("Mapping[str, object]", fields if isinstance(fields, Mapping) else {}).items():
        if name in HIDING_PLACES:
            _check_hidden(f"{name} in {place}", value, allowed, cap_option)
        elif name in PRICED or name == cap_option:
            raise Refused(f"{name} in {place} would win over what the gateway prices; set it on the model or the call")
        else:
            _check(name, value, allowed)


def _check(name: str, value: object, allowed: Collection[str]) -> None:
    if name in UNBOUNDED and value:
        raise Refused(f"option {name!r} is billed beyond any bound that Bursar knows: {UNBOUNDED[name]}")
    if name not in allowed and name not in UNBOUNDED:
        raise Refused(
            f"option {name!r} is not known to cost nothing more; call without it, or say that it does not: "
            f"meter(model, allow={{{name!r}}})"
        )
