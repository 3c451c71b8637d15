"""What a person is shown before a run, an action or a raise of a budget that they must approve, and their answer."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from bursar.state.money import USD

HASH = r"^[0-9a-f]{64}$"
RAISE = "raise the budget"  # stands for an action's name; those have a dot


class BudgetRaise(BaseModel):
    """A raise of a request's budget: what the request has `spent` of its `budget`, and by which `amount` it is raised.

    `spent` includes what calls in flight hold. `needs` is the least that the stopped step needs to go on, and `why`
    says in one sentence what stopped it. `accounts` has the amount by which each account's cap is raised: the
    request's, and that of the agent if the request's budget had narrowed it below the agent's ceiling.
    """

    model_config = ConfigDict(frozen=True)

    spent: USD
    budget: USD
    needs: USD
    amount: USD
    why: str
    accounts: Mapping[str, USD]


class ApprovalRequest(BaseModel):
    """What a person is asked to approve until `expires_at`.

    It is this specialist's run, this action of the run, or this raise of the request's budget. `attempt` counts from 1:
    an approval is good for one attempt, and a later run asks again. `ceiling` is the most that the specialist may
    spend; of a raise, its amount. `subject_hash` is a hash of every other field. A person's answer names this hash, and
    approves only the request that has this hash.
    """

    model_config = ConfigDict(frozen=True)

    approval_id: str
    session_id: str
    request_id: str
    request: str
    specialist: str
    action: str | None = None
    what: str
    arguments: Mapping[str, JsonValue] = Field(default_factory=dict)
    ceiling: USD | None = None
    budget_raise: BudgetRaise | None = None
    attempt: int = 1
    expires_at: datetime
    subject_hash: str = ""

    def sealed(self) -> "ApprovalRequest":
        """Return a copy whose `subject_hash` is the hash of its other fields."""
        return self.model_copy(update={"subject_hash": self.digest()})

    def digest(self) -> str:
        """Return the SHA-256 of every field but `subject_hash`, as canonical JSON."""
        fields = self.model_dump(mode="json", exclude={"subject_hash"})
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Approve(BaseModel):
    """The person `by` approves the request with this hash.

    As JSON: `{"verdict": "approve", "subject_hash": "…", "by": "…"}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Literal["approve"] = "approve"
    subject_hash: Annotated[str, Field(pattern=HASH)]
    by: Annotated[str, Field(min_length=1, max_length=200)]


class Deny(BaseModel):
    """The person `by` denies the request with this hash.

    As JSON: `{"verdict": "deny", "subject_hash": "…", "by": "…"}`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Literal["deny"] = "deny"
    subject_hash: Annotated[str, Field(pattern=HASH)]
    by: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(max_length=1_000)] = ""


_ANSWERS: TypeAdapter[Approve | Deny] = TypeAdapter(
    Annotated[Approve | Deny, Field(discriminator="verdict")], config=ConfigDict(defer_build=True)
)


def answer_of(value: object) -> Approve | Deny | None:
    """Return a person's answer from `value`, with which a graph was resumed: an `Approve` or `Deny`, or its JSON.

    If `value` is no answer, return None.
    """
    try:
        return _ANSWERS.validate_python(value)
    except ValidationError:
        return None
