"""A fault for each condition of the money rules, and of the statements that store what they decide."""

from collections.abc import Sequence

from tests.mutation.mutant import WITH, Mutant

PLAYED = "tests/simulation/test_simulation.py::test_the_money_rules_hold_at_all"
RULES = "tests/state/rules"
REAL = "tests/simulation/test_real_ledger.py::test_the_ledger_agrees_with_the_rules"
CALLS, PLANS, PRICING = "state/rules/calls.py", "state/rules/plans.py", "state/rules/pricing.py"
GROWTH = "state/rules/growth.py"

# The name of the fault, the text, and what it becomes. The simulator or the rules' own tests must catch it.
_IN_ACCOUNTS = (
    ("a call that was sent holds nothing", '("held", "sent")  # the hold', '("held",)  # the hold'),
    ("a call is marked as sent twice", '"send": ("held",)', '"send": IN_FLIGHT'),
    ("an unknown call is settled late", '"settle": IN_FLIGHT', '"settle": (*IN_FLIGHT, "unknown")'),
    ("a settled call is freed", '"void": IN_FLIGHT', '"void": (*IN_FLIGHT, "settled")'),
    ("a settled call is lost", '"lose": IN_FLIGHT', '"lose": (*IN_FLIGHT, "settled")'),
    ("a call in flight is reconciled", '"reconcile": ("unknown",)', '"reconcile": ("unknown", "held")'),
    (
        "a hold is spent at once",
        "Movement(held=amount, spent=0)\n\n\ndef settle",
        "Movement(held=0, spent=amount)\n\n\ndef settle",
    ),
    ("a settlement keeps the hold", "Movement(held=-amount, spent=cost)", "Movement(held=0, spent=cost)"),
    ("a settlement books the hold", "Movement(held=-amount, spent=cost)", "Movement(held=-amount, spent=amount)"),
    ("a refused call is charged", "Movement(held=-amount, spent=0)", "Movement(held=-amount, spent=amount)"),
    ("an unknown call frees its money", "Movement(held=-amount, spent=amount)", "Movement(held=-amount, spent=0)"),
    ("a reconciled call is charged twice", "spent=cost - amount", "spent=cost"),
    ("a call at its hold is an overrun", "return cost > amount", "return cost >= amount"),
    ("no call is an overrun", "return cost > amount", "return cost > 2 * amount"),
    ("a balance has no calls in flight", "if state in IN_FLIGHT:", "if state not in IN_FLIGHT:"),
    ("a balance has settled calls at their hold", '{"settled": cost,', '{"settled": amount,'),
    ("a balance has no unknown calls", '"unknown": amount}', '"unknown": 0}'),
    (
        "what is held is left",
        "return None if cap is None else cap - spent - held",
        "return None if cap is None else cap - spent",
    ),
    (
        "what is spent is left",
        "return None if cap is None else cap - spent - held",
        "return None if cap is None else cap - held",
    ),
    ("a hold that leaves nothing is refused", "amount <= left", "amount < left"),
    ("no cap is no room", "left is None or amount", "left is not None and amount"),
    ("what people grant is not counted", "configured + granted", "configured"),
)
_IN_ADMISSION = (
    ("a run that has ended pays", "    if ended:\n", "    if not pays and ended:\n"),
    ("a deterministic run pays", "None if pays else Refusal.UNPAID", "None"),
    ("a run has one turn more", "sent < most", "sent <= most"),
    ("a limit of turns is none", "most is None or sent < most", "True"),
    ("a paused agent pays", "    if paused:\n", "    if paused and not offers:\n"),
    (
        "an open breaker lets calls through",
        "if not offer.breaker or admits(offer.breaker):",
        "if offer.breaker or admits(offer.breaker):",
    ),
    (
        "a function without a breaker is refused",
        "if not offer.breaker or admits(offer.breaker):",
        "if admits(offer.breaker):",
    ),
    ("the last model that is stopped is named", "if declined.why is Refusal.TOO_DEAR:", "if declined.why:"),
    ("an offer that does not fit ends the search", "            continue\n", "            break\n"),
    (
        "one answer of several is held",
        "SizedOffer(price.worst_case(input_tokens, cap * choices), cap)",
        "SizedOffer(price.worst_case(input_tokens, cap), cap)",
    ),
    ("the least of one answer counts", "smallest * choices)", "smallest)"),
    (
        "a cap that was asked for is no least",
        "min(minimum, maximum if asked is None else min(asked, maximum))",
        "minimum",
    ),
    ("a fixed price needs no room", "SizedOffer(amount) if fits(amount, left) else None", "SizedOffer(amount)"),
    ("a known cost is not booked", "    if is_cost_known:\n", "    if not is_cost_known:\n"),
    ("a call whose end nobody knows is freed", '"void" if owed == "nothing" else "lose"', '"void"'),
    ("a refused call is charged its hold", '"void" if owed == "nothing" else "lose"', '"lose"'),
    ("a fault is sent again for ever", "if not retry or attempt + 1 >= MAX_ATTEMPTS:", "if not retry:"),
    (
        "what must not be sent again is",
        "if not retry or attempt + 1 >= MAX_ATTEMPTS:",
        "if attempt + 1 >= MAX_ATTEMPTS:",
    ),
    ("one attempt is too many", "attempt + 1 >= MAX_ATTEMPTS", "attempt >= MAX_ATTEMPTS"),
    ("pauses do not grow", "FIRST_PAUSE_SECONDS * 2**attempt", "FIRST_PAUSE_SECONDS"),
    ("a server may ask for any pause", "if pause > MAX_PAUSE_SECONDS or (", "if ("),
    ("a pause goes beyond the deadline", "pause >= seconds_left", "pause >= 2 * seconds_left"),
)
_IN_PRICING = (
    ("a call without a cost is free", "hold if self.nanos is None", "0 if self.nanos is None"),
    ("writes for an hour are no worst case", "self.cache_write, self.long_cache_write)\n", "self.cache_write)\n"),
    ("writes are no worst case", "self.cache_read, self.cache_write, self.long", "self.cache_read, self.long"),
    ("reads are no worst case", "(self.input, self.cache_read, ", "(self.input, "),
    ("plain input is no worst case", "(self.input, self.cache_read, ", "(self.cache_read, "),
    (
        "reasoning is no worst case",
        "max(_dearest(self.output, input_tokens), _dearest(self.reasoning, input_tokens))",
        "_dearest(self.output, input_tokens)",
    ),
    (
        "speech is no worst case",
        "max(_dearest(self.output, input_tokens), _dearest(self.reasoning, input_tokens))",
        "_dearest(self.reasoning, input_tokens)",
    ),
    (
        "more is kept for an hour than is written",
        "min(long_cache_write_tokens, usage.cache_write_tokens)",
        "long_cache_write_tokens",
    ),
    ("cache reads are paid twice", "max(0, size - usage.cache_read_tokens - usage", "max(0, size - usage"),
    (
        "cache writes are paid twice",
        "- usage.cache_read_tokens - usage.cache_write_tokens)\n        said",
        "- usage.cache_read_tokens)\n        said",
    ),
    (
        "reasoning is paid twice",
        "usage.output_tokens - usage.reasoning_tokens)\n        return",
        "usage.output_tokens)\n        return",
    ),
    ("the fee of a call is not billed", "            self.per_call\n", "            0\n"),
    ("the fee of a call is not held", "                rates.per_call\n", "                0\n"),
    (
        "the cheapest list is held",
        "        return max(\n            _nanos(\n",
        "        return min(\n            _nanos(\n",
    ),
    ("the cheapest list is billed", "return max(_nanos(rates.cost", "return min(_nanos(rates.cost"),
    ("an input that costs too much leaves room", "                return -1\n", "                return 0\n"),
    ("the cheapest list sets the cap", "min(most, rest // rate)", "max(most, rest // rate)"),
    ("the fee of a call leaves room", "FEMTOS_PER_NANO - rates.per_call - input", "FEMTOS_PER_NANO - input"),
    (
        "a cap may be above what was asked",
        "wanted = maximum if asked is None else min(asked, maximum)\n    fitting",
        "wanted = maximum\n    fitting",
    ),
    ("one call may take all that is left", "left // SHARE_OF_WHAT_IS_LEFT", "left"),
    ("a quarter may be less than an answer", "least = max(ordinary, minimum)", "least = minimum"),
    (
        "a quarter may be less than the minimum",
        "least = max(ordinary, minimum)",
        "least = ordinary",
    ),
    ("a cap below the useful minimum is sent", "fitting >= min(minimum, wanted)", "fitting > 0"),
    ("each of several answers may take it all", "most // choices)", "most)"),
    (
        "an answer without usage is charged what was seen",
        "Bill(max(hold, price.worst_case(input_tokens, seen)))",
        "Bill(price.worst_case(input_tokens, seen))",
    ),
    (
        "an answer without usage is charged its hold alone",
        "Bill(max(hold, price.worst_case(input_tokens, seen)))",
        "Bill(hold)",
    ),
    (
        "output that was seen is not billed",
        "output_tokens=max(usage.output_tokens, seen)",
        "output_tokens=usage.output_tokens",
    ),
    (
        "parts of a bill that do not agree are charged at their least",
        "nanos=max(billed.charge(hold), min(most, hold))",
        "nanos=billed.nanos",
    ),
    ("parts that do not agree are charged beyond the hold", "min(most, hold))", "most)"),
    (
        "tokens in the total alone are speech",
        "max(bill(price, whole).charge(hold), bill(price, thought).charge(hold))",
        "bill(price, whole).charge(hold)",
    ),
    (
        "tokens in the total alone are thought",
        "max(bill(price, whole).charge(hold), bill(price, thought).charge(hold))",
        "bill(price, thought).charge(hold)",
    ),
    ("a stream beyond its cap is charged its hold", "if worst > hold else None", "if worst > 9 * hold else None"),
    ("cached input beyond the input is sound", "cached <= usage.input_tokens and ", ""),
    ("reasoning beyond the output is sound", "usage.reasoning_tokens <= usage.output_tokens and not", "not"),
    ("tokens in the total alone are sound", " and not usage.other_tokens\n", "\n"),
    ("cached input beside the input is not added", "cached if cached > usage.input_tokens else 0", "0"),
    (
        "reasoning beside the output is not added",
        "usage.reasoning_tokens if usage.reasoning_tokens > usage.output_tokens else 0",
        "0",
    ),
    ("tokens in the total alone are not added", "beside_output + usage.other_tokens", "beside_output"),
    ("a step begins one token early", "if input_tokens > start:", "if input_tokens >= start:"),
    (
        "a step that is reached is no worst case",
        "if start < max(input_tokens, 0)",
        "if start < max(input_tokens - 1, 0)",
    ),
    ("a bill is rounded down", "-(-femtos // FEMTOS_PER_NANO)", "femtos // FEMTOS_PER_NANO"),
    ("money is a float on its way", "-(-femtos // FEMTOS_PER_NANO)", "int(femtos / FEMTOS_PER_NANO)"),
)
_IN_PLANS = (
    ("a step that leaves nothing does not start", "expected <= left and", "expected < left and"),
    ("a step starts that is expected to cost too much", "expected <= left and ", ""),
    ("a step starts to pay with nothing", " and (left > 0 or not pays)", ""),
    ("a step may spend its ceiling of what is not left", "min(ceiling, left)", "ceiling"),
    ("a step may spend beyond its ceiling", "min(ceiling, left)", "left"),
    ("a raise lets nothing go on", " and room + amount >= needs", ""),
    ("a raise is above what the session has", "min(amount, above - room)", "amount"),
    ("a raise does not count what is left", "amount = wants - room\n", "amount = wants\n"),
    ("a raise lowers the budget", "if amount > 0 and", "if"),
)

_IN_GROWTH = (
    ("a step that does not fit is taken", "if needed > affordable:", "if needed > affordable + 1:"),
    ("a step that fits is refused", "if needed > affordable:", "if needed >= affordable:"),
    ("a stream has no slack", "min(seen + self.slack, self.most)", "min(seen, self.most)"),
    ("a stream is held beyond its cap", "held=min(target, self.most)", "held=target"),
    ("a step takes all that is left", "self.amount // max(2 * room.held, 1)", "1"),
    ("a stream that was hung up is charged what arrived", "max(certain, min(worst, hold)), Usage", "certain, Usage"),
    ("a stream without room for its first part is sent", "if held >= least else None", "if held >= 0 else None"),
)


def _planted(file: str, faults: Sequence[tuple[str, str, str]]) -> list[Mutant]:
    return [Mutant(name, file, old, new, [PLAYED, RULES]) for name, old, new in faults]


MONEY_RULES = (
    *_planted(CALLS, _IN_ACCOUNTS),
    *_planted(CALLS, _IN_ADMISSION),
    *_planted(PLANS, _IN_PLANS),
    *_planted(PRICING, _IN_PRICING),
    *_planted(GROWTH, _IN_GROWTH),
    Mutant(
        "SQLite holds beyond a cap", "checkpoints/ledger/accounts.py", ".where(accounts.c.held <= _room)", "", [REAL]
    ),
    Mutant(
        "PostgreSQL holds beyond a cap",
        "checkpoints/ledger/postgresql_postings.py",
        "count(*) = {count} AND bool_and(room)",
        "count(*) = {count}",
        [REAL],
        on=WITH,
    ),
    Mutant(
        "PostgreSQL holds for a session with an incident",
        "checkpoints/ledger/postgresql_postings.py",
        " AND incident IS NULL",
        "",
        [REAL],
        on=WITH,
    ),
    Mutant(
        "PostgreSQL settles a call that has ended",
        "checkpoints/ledger/postgresql_postings.py",
        " AND state IN ('held', 'sent') FOR UPDATE",
        " FOR UPDATE",
        [REAL],
        on=WITH,
    ),
    Mutant(
        "PostgreSQL keeps the hold of a settled call",
        "checkpoints/ledger/postgresql_postings.py",
        "held = account.held - call.amount, ",
        "held = account.held, ",
        [REAL],
        on=WITH,
    ),
    Mutant(
        "an answer is found for another call of the same request",
        "checkpoints/ledger/calls.py",
        '        calls.c.occurrence == bindparam("nth"),\n',
        '        bindparam("nth").is_not(None),\n',
        [REAL],
    ),
    Mutant(
        "an answer is found at another place",
        "checkpoints/ledger/calls.py",
        '        calls.c.checkpoint_ns == bindparam("checkpoint"),\n        calls.c.request_hash',
        '        bindparam("checkpoint").is_not(None),\n        calls.c.request_hash',
        [REAL],
    ),
    Mutant(
        "calls of another run are marked as lost",
        "checkpoints/ledger/calls.py",
        '    func.substr(calls.c.checkpoint_ns, 1, bindparam("length", type_=Integer)) == bindparam("checkpoint"),\n',
        '    func.substr(calls.c.checkpoint_ns, 1, bindparam("length", type_=Integer)) != "",\n',
        [REAL],
    ),
    Mutant(
        "void calls count as turns",
        "checkpoints/ledger/calls.py",
        """        calls.c.state != literal_column("'void'"),\n""",
        "",
        [REAL],
    ),
    Mutant(
        "an overrun closes no session",
        "checkpoints/ledger/administration.py",
        "sessions.c.incident.is_(None)",
        "sessions.c.incident.is_not(None)",
        [REAL],
    ),
)
