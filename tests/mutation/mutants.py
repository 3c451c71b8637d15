"""Plant one fault at a time in a copy of gateway and ledger; the tests beside it must catch it: `make mutants`."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.mutation.money_rules import MONEY_RULES
from tests.mutation.mutant import WITH, WITHOUT, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("state", "checkpoints", "nodes", "graphs", "src", "tests", "pyproject.toml")
WORKERS = 2
TIMEOUT_SECONDS = 180

FAULTS = "tests/nodes/gateway/test_provider_failures.py"
GATEWAY = "tests/nodes/gateway/test_chat_call.py"
JOURNAL = "tests/nodes/gateway/test_journal.py"
THREADS = "tests/nodes/gateway/test_scope_in_threads.py"
BOOKS = "tests/checkpoints/ledger/test_postings.py"
CAPS = "tests/checkpoints/ledger/test_accounts.py"
CHAIN = "tests/checkpoints/ledger/test_hash_chain.py"
AGENTS = "tests/adversaries/test_agents.py"
PROVIDERS = "tests/adversaries/test_providers.py"
SHARING = "tests/checkpoints/database/test_shared_transactions.py"
INTERRUPTS = "tests/checkpoints/database/test_interrupts.py"
CAP = "tests/graphs/test_ask_at_the_cap.py"
RAISES = "tests/nodes/actions/test_budget_raises.py"
ASKS = "nodes/actions/budget_raises.py"
ADMINISTRATION, APPROVALS = "checkpoints/ledger/administration.py", "checkpoints/ledger/approvals.py"


MUTANTS = (
    *MONEY_RULES,
    Mutant(
        "work joins a transaction that only reads, and sees what was there when it began",
        "checkpoints/database/database.py",
        "joined = not (readonly or marked or begun)",
        "joined = not (marked or begun)",
        [SHARING],
    ),
    Mutant(
        "what must be on disk joins a commit that waits for no disk",
        "checkpoints/database/database.py",
        "if job.durable and not (durable or job.readonly):",
        "if durable is None:",
        [SHARING],
    ),
    Mutant(
        "where one of several raises, what the others did is kept and done again",
        "checkpoints/database/database.py",
        "                held.rollback()\n                self._attempt(held, jobs, marked=True)\n",
        "                held.commit()\n                self._attempt(held, jobs, marked=True)\n",
        [SHARING],
    ),
    Mutant(
        "an interrupt beside a failed commit tells others of success",
        "checkpoints/database/database.py",
        "failed = True",
        "failed = False",
        [INTERRUPTS],
    ),
    Mutant(
        "an interrupt between the end of a transaction and its telling leaves others waiting",
        "checkpoints/database/database.py",
        "if not told:",
        "if told is None:",
        [INTERRUPTS],
    ),
    Mutant(
        "a hold is not conditional on what is left",
        "checkpoints/ledger/accounts.py",
        ".where(accounts.c.held <= _room)",
        "",
        [BOOKS],
    ),
    Mutant(
        "a call is settled before it is sent",
        "nodes/gateway/send_with_retries.py",
        "            result = yield from call.send(granted)\n",
        "            yield from settle(claim, granted, cost=0, usage=NO_USAGE, response=None)\n"
        "            result = yield from call.send(granted)\n",
        [f"{GATEWAY}::test_a_plain_call_is_charged_what_the_provider_billed"],
    ),
    Mutant(
        "the agent's own account is forgotten",
        "nodes/runs/run.py",
        "scopes=(*scopes_of(request, coordinator.budget), agent_scope(request, link.agent)),",
        "scopes=scopes_of(request, coordinator.budget),",
        [f"{AGENTS}::test_an_agent_stays_within_its_own_ceiling"],
    ),
    Mutant(
        "a call that was voided can be settled",
        "checkpoints/ledger/calls.py",
        """.where(calls.c.call_id == bindparam("call"), _in_state(*MAY_FOLLOW[step]))""",
        """.where(calls.c.call_id == bindparam("call"))""",
        [BOOKS],
    ),
    Mutant(
        "a retry is sent under the hold that was voided",
        "nodes/gateway/send_with_retries.py",
        "            granted = yield from _admitted(call, first=attempt == 0)\n",
        "            if attempt == 0:\n                granted = yield from _admitted(call, first=True)\n",
        [f"{FAULTS}::test_a_rate_limit_is_waited_out"],
    ),
    Mutant(
        "the journal is not asked",
        "nodes/gateway/paid_calls/admission.py",
        "    if answer is not None:\n",
        "    if answer is not None and not claim.offers:\n",
        [f"{JOURNAL}::test_a_repeated_run_is_answered_from_the_journal"],
    ),
    Mutant(
        "no cap goes out with the call",
        "nodes/gateway/providers/generic.py",
        "return {**sent, client.cap_option: cap} if client.cap_option else sent",
        "return sent",
        [f"{PROVIDERS}::test_a_server_that_writes_sixteen_thousand_tokens_without_a_cap_always_gets_one"],
    ),
    Mutant(
        "a call of unknown end is treated as void",
        "nodes/gateway/send_with_retries.py",
        "        yield from mark_unknown(claim, granted, failure.reason, says)\n",
        "        yield from void(claim, granted, failure.reason, says)\n",
        [f"{FAULTS}::test_a_cut_answer_stays_charged_at_its_hold"],
    ),
    Mutant(
        "the hold is not in the books when the call is sent",
        "nodes/gateway/paid_calls/flow.py",
        "        self.result = result = self.database.run(self.work, until=self.until, lasting=self.lasting)\n",
        "        if self.outlast:\n"
        "            done = []\n"
        "            try:\n"
        "                self.database.run(lambda connection: done.append(self.work(connection)) or 1 // 0)\n"
        "            except ZeroDivisionError:\n"
        "                self.result = done[0]\n"
        "                return done[0]\n"
        "        self.result = result = self.database.run(self.work, until=self.until, lasting=self.lasting)\n",
        [f"{GATEWAY}::test_a_plain_call_is_charged_what_the_provider_billed"],
    ),
    Mutant(
        "turns of earlier runs are not counted",
        "nodes/gateway/paid_calls/admission.py",
        "if not has_turn(others, scope.max_turns):",
        "if not has_turn(others, scope.max_turns * 1_000):",
        [f"{AGENTS}::test_a_run_again_with_other_prompts_gets_no_fresh_turns"],
    ),
    Mutant(
        "a stream never stops",
        "nodes/gateway/chat_call.py",
        "            if self.received.tokens > granted.cap * self.call.chosen(granted).choices:\n",
        "            if self.received.tokens < 0:\n",
        [FAULTS],
    ),
    Mutant(
        "a cost above the hold is cut to the hold",
        "nodes/gateway/paid_calls/admission.py",
        "            cost=cost,\n",
        "            cost=min(cost, hold.amount),\n",
        [f"{PROVIDERS}::test_an_actual_above_the_hold_closes_the_session"],
    ),
    Mutant(
        "an incident closes nothing",
        "checkpoints/ledger/hash_chain.py",
        """        or_(sessions.c.incident.is_(None), not_(bindparam("pays", type_=Boolean))),\n""",
        "",
        [f"{PROVIDERS}::test_an_actual_above_the_hold_closes_the_session"],
    ),
    Mutant(
        "a hold in one statement asks no account whether it has room",
        "checkpoints/ledger/postgresql_postings.py",
        "bool_and(room)",
        "bool_and(true)",
        [BOOKS],
        WITH,
    ),
    Mutant(
        "an incident closes no session to a hold in one statement",
        "checkpoints/ledger/postgresql_postings.py",
        "AND incident IS NULL AND",
        "AND",
        [CAPS],
        WITH,
    ),
    Mutant(
        "a log is written on from where it was seen to end, wherever it ends",
        "checkpoints/ledger/hash_chain.py",
        """        sessions.c.sequence == bindparam("before"),\n        sessions.c.head == bindparam("previous"),\n""",
        "",
        [CHAIN],
    ),
    Mutant(
        "a refusal does not stay",
        "nodes/gateway/paid_calls/admission.py",
        "    claim.scope.latch(refusal)\n",
        "",
        [f"{AGENTS}::test_a_handler_that_swallows_every_exception_is_still_exhausted"],
    ),
    Mutant(
        "an ended run can spend",
        "nodes/gateway/paid_calls/admission.py",
        "    if scope.closed:\n",
        "    if scope.closed and not scope.paid:\n",
        [f"{GATEWAY}::test_a_closed_scope_cannot_spend"],
    ),
    Mutant(
        "a time-out that comes in a commit is heard where the provider is waited for",
        "checkpoints/database/loop_commits.py",
        "        for _ in range(2):",
        "        for _ in range(1):",
        [f"{FAULTS}::test_a_time_out_while_the_hold_waits_for_a_lock_costs_nothing"],
    ),
    Mutant(
        "a helper's calls are not charged to whoever caused them",
        "nodes/gateway/paid_calls/scope.py",
        "scopes=(*self.scopes, account)",
        "scopes=(*self.scopes[:-1], account)",
        [f"{THREADS}::test_a_call_on_behalf_of_another_agent_keeps_the_path"],
    ),
    Mutant(
        "a pool's thread charges whoever started it",
        "nodes/isolation/inherited_context.py",
        "            return submit(pool, self._run, value, fn, *args, **kwargs)\n",
        "            return submit(pool, fn, *args, **kwargs)\n",
        [f"{THREADS}::test_a_pool_that_two_runs_share_charges_each_job_to_whoever_gave_it"],
    ),
    Mutant(
        "a field that decides the price hides in extra_body",
        "nodes/gateway/bounds.py",
        "        elif name in PRICED or name == cap_option:\n",
        "        elif name == cap_option:\n",
        ["tests/adversaries/test_request_fields.py::test_no_placement_of_any_field_costs_more_than_the_budget"],
    ),
    Mutant(
        "an unknown field is sent",
        "nodes/gateway/bounds.py",
        "    if name not in allowed and name not in UNBOUNDED:\n",
        "    if not name:\n",
        ["tests/adversaries/test_request_fields.py::test_an_unknown_field_is_refused_by_name_until_it_is_allowed"],
    ),
    Mutant(
        "usage that a stream repeats is added up",
        "nodes/gateway/paid_calls/journal.py",
        '    return usages[-1] if repeated and usages[-1]["input_tokens"] else None\n',
        "    return None\n",
        ["tests/adversaries/test_usage_shapes.py::test_a_report_that_is_repeated_counts_once"],
    ),
    Mutant(
        "a cap below a thinking budget is sent",
        "nodes/gateway/chat_model.py",
        "minimum=max(terms.minimum, thinking_tokens(client, options) + 1)",
        "minimum=terms.minimum",
        ["tests/adversaries/test_caps_and_caches.py::test_a_cap_below_a_thinking_budget_is_not_sent"],
    ),
    Mutant(
        "an answer that a budget cut short is cached for others",
        "nodes/gateway/chat/whole_answers_cache.py",
        "        if not is_cut_short(return_val):\n            self._cache.update(",
        "        if return_val:\n            self._cache.update(",
        ["tests/adversaries/test_caps_and_caches.py::test_an_answer_that_a_budget_cut_short_is_for_nobody_else"],
    ),
    Mutant("two raises are made for a request", ADMINISTRATION, "in raises) > 1", "in raises) > 2", [RAISES]),
    Mutant("a raise that was used is asked for anew", APPROVALS, " and asked.action != RAISE)", ")", [RAISES]),
    Mutant("a raise is asked for after an incident", ASKS, "if not by_budget:", "if by_budget is None:", [CAP]),
    Mutant("a denied raise is asked for anew", ASKS, "return not_raised(ended[-1]) if ended else", "return", [CAP]),
    Mutant("a raise leaves the agent's narrowed cap", ASKS, "if narrowed > 0 else", "if narrowed < 0 else", [CAP]),
    Mutant("a person is asked by default", "graphs/supervisor.py", "asks=is_asking(on_exhausted)", "asks=True", [CAP]),
)


def copy_to(folder: Path) -> Path:
    """A copy of the sources and the tests; `src` keeps its relative links."""
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def run_tests(folder: Path, tests: Sequence[str], on: str) -> "subprocess.CompletedProcess[str]":
    """The named tests on the copy, those that have the mark, up to the first that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, "-m", on, *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def verdict_on(mutant: Mutant, folder: Path) -> str:
    """`caught`, or what went wrong."""
    file = folder / mutant.file
    source = file.read_text()
    if source.count(mutant.old) < 1:
        return "STALE: the text is not there"
    file.write_text(source.replace(mutant.old, mutant.new))
    try:
        done = run_tests(folder, mutant.tests, mutant.on)
    except subprocess.TimeoutExpired:
        return "caught (by the clock)"
    finally:
        file.write_text(source)
    if done.returncode == 1:
        return "caught"
    return "SURVIVED" if done.returncode == 0 else f"BROKEN: {done.stdout.strip().splitlines()[-1:]}"


def main() -> int:
    """Print a table; 0 if the tests pass without a fault and each fault was caught."""
    with tempfile.TemporaryDirectory() as base:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            folders.put(copy_to(Path(base) / str(number)))
        folder = folders.get()
        for on in (WITHOUT, WITH):
            sound = run_tests(folder, sorted({test for one in MUTANTS if one.on == on for test in one.tests}), on)
            if sound.returncode != 0 or " passed" not in sound.stdout or (on == WITH and " skipped" in sound.stdout):
                print(sound.stdout)
                print("the tests fail without any fault, or there is no PostgreSQL to run them on")
                return 1
        folders.put(folder)

        def judge(mutant: Mutant) -> str:
            mine = folders.get()
            try:
                return verdict_on(mutant, mine)
            finally:
                folders.put(mine)

        with ThreadPoolExecutor(WORKERS) as pool:
            verdicts = list(pool.map(judge, MUTANTS))
    for mutant, verdict in zip(MUTANTS, verdicts, strict=True):
        print(f"{verdict:22} {mutant.name:60} {mutant.file}")
    caught = sum(verdict.startswith("caught") for verdict in verdicts)
    print(f"{caught} of {len(MUTANTS)} caught")
    return 0 if caught == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
