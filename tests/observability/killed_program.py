"""The program that is killed in the middle of a traced request, and that is started again to go on with it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from langchain_core.tracers.langchain import wait_for_all_tracers
from langchain_openai import ChatOpenAI
from langsmith import utils

from bursar import Budget, Ledger, Report, Task, meter
from tests.crash.programs.victim import die
from tests.support.graphs import App, build, free, session
from tests.support.provider import MODEL


def program(url: str, provider: str, place: str) -> App:
    """Return a supervisor of one specialist, which pays twice. At `place` the process dies between its payments.

    At "flushed" all that was told until then has been sent, at "unsent" it may not have been, and "" is nowhere.
    """
    model = meter(ChatOpenAI(model=MODEL, api_key=lambda: "none", base_url=provider), max_output_tokens=100)

    def talker(task: Task) -> Report:
        first = model.invoke("talker 1").text
        if place == "flushed":
            wait_for_all_tracers()
        if place:
            die()
        return Report(answer=f"{first}; {model.invoke('talker 2').text}")

    return build(Ledger(url), [free("talker", talker)], budget=Budget("0.03"))


def main(arguments: tuple[str, str, str], environment: Mapping[str, str], output: str, *, resumes: bool) -> None:
    """Ask, or go on with what was asked, and print the answer. What is printed goes to the file `output`.

    `arguments` are those of `program`. The process is a fork, so it reads `environment` anew.
    """
    os.environ.update(environment)
    cast(Any, utils.get_env_var).cache_clear()
    utils.get_tracer_project.cache_clear()
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        app = program(*arguments)
        asked = None if resumes else {"messages": [("user", "how much?")]}
        print(app.invoke(asked, session())["messages"][-1].text)
        wait_for_all_tracers()
