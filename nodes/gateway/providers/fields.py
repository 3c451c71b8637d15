"""Request fields, judged: which add nothing to what a hold covers, which decide the price, and which have no bound."""

from collections.abc import Mapping

CAP_OPTIONS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
HIDING_PLACES = ("extra_body", "model_kwargs", "options")  # more fields may hide inside these
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
