"""Costs by the columns of FOCUS, the FinOps Open Cost and Usage Specification, version 1.2, as CSV.

A row is a call. The columns are those that FOCUS demands of every data set, those of its conditional ones that the
books can fill, and columns of Bursar's own, whose names begin with `x_`. The sum of `BilledCost` is what the ledger
spent, to the nano-dollar: a call whose end nobody saw is in it with its hold, and `x_CallState` says so. Source of the
columns: https://focus.finops.org/focus-specification/v1-2/.
"""

import csv
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TextIO

from bursar.checkpoints.ledger.reconciliation.charges import Charge
from bursar.state.money import USD

UNTOLD = "unspecified"  # FOCUS allows no null here, and the books do not know
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost"),
    *("InvoiceIssuerName", "ListCost", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName"),
    *("PublisherName", "ResourceId", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId"),
    *("SkuPriceId", "SubAccountId", "SubAccountName", "Tags", "x_CallId", "x_CallState", "x_InputTokens"),
    *("x_OutputTokens", "x_CacheReadTokens", "x_CacheWriteTokens", "x_ReasoningTokens"),
)


def write_focus(rows: Iterable[Charge], file: TextIO) -> None:
    """Write one line for each charge, below the line with the columns' names. Amounts are exact decimal text."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in rows:
        writer.writerow({**_money(one), **_times(one), **_service(one), **_usage(one), **_whose(one)})


def _money(one: Charge) -> dict[str, object]:
    cost = f"{USD.from_nanos(one.nanos).dollars:f}"
    return {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost),
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeClass": "",  # null: no correction of an earlier period
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Standard",
    }


def _times(one: Charge) -> dict[str, object]:
    month = one.held_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + timedelta(days=32)).replace(day=1)
    start = one.held_at.replace(microsecond=0)
    end = max(one.ended_at, one.held_at).replace(microsecond=0) + timedelta(seconds=1)  # exclusive
    return {
        "BillingPeriodStart": _time(month),
        "BillingPeriodEnd": _time(following),
        "ChargePeriodStart": _time(start),
        "ChargePeriodEnd": _time(end),
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _service(one: Charge) -> dict[str, object]:
    seller = _seller(one.price_version)
    return {
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), seller),
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": one.model,
        "SkuId": one.model,
        "SkuPriceId": one.price_version,
        "ChargeDescription": f"one call of {one.model} by {one.agent}",
    }


def _seller(price_version: str) -> str:
    """Return who sells the model: `genai-prices 0.1 openai/gpt-4o` names openai; a price by hand names nobody."""
    words = price_version.split()
    return words[2].partition("/")[0] if len(words) > 2 and "/" in words[2] else UNTOLD


def _usage(one: Charge) -> dict[str, object]:
    usage = one.usage
    if usage is None:  # nobody has seen it
        return {}
    total = usage.input_tokens + usage.output_tokens
    return {
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), total),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "Tokens"),
        "x_InputTokens": usage.input_tokens,
        "x_OutputTokens": usage.output_tokens,
        "x_CacheReadTokens": usage.cache_read_tokens,
        "x_CacheWriteTokens": usage.cache_write_tokens,
        "x_ReasoningTokens": usage.reasoning_tokens,
    }


def _whose(one: Charge) -> dict[str, object]:
    tags = {"agent": one.agent, "request": one.request_id, "session": one.session_id}
    return {
        **dict.fromkeys(("BillingAccountId", "BillingAccountName"), UNTOLD),
        **dict.fromkeys(("SubAccountId", "SubAccountName"), one.tenant),
        "ResourceId": one.agent,
        "ResourceType": "Agent",
        "Tags": json.dumps(tags, sort_keys=True, ensure_ascii=False),
        "x_CallId": one.call_id,
        "x_CallState": one.state,
    }
