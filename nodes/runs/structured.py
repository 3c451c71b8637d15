"""Structured answers: what a handler returned as a dict, a pydantic model or a dataclass becomes a report's data."""

import dataclasses
import json
from collections.abc import Mapping
from typing import cast

from langchain_core.load.serializable import Serializable
from langchain_core.messages import AIMessage
from langgraph.types import Command
from pydantic import BaseModel, JsonValue
from pydantic_core import PydanticSerializationError, to_jsonable_python

from bursar.state.errors import BadOutput
from bursar.state.run import Report, Task

# LangChain's own objects, such as a prompt or a model, a task, and LangGraph's commands are no answers.
NO_ANSWERS = (Serializable, Task, Command)


def is_structured(value: object) -> bool:
    """Whether a handler that returned the value returned a structured answer."""
    if isinstance(value, (*NO_ANSWERS, type)):
        return False
    return isinstance(value, Mapping | BaseModel) or dataclasses.is_dataclass(value)


def structured_report(value: object, message: object = None) -> Report:
    """Return the report of a structured answer, not validated yet. Its fields are the report's `data`.

    Its text is the field `answer` if that is a text, otherwise the text of `message` if a model wrote that, otherwise
    the fields as JSON. Raises `BadOutput` if a field cannot be written as JSON.
    """
    kind = type(value).__name__
    try:
        plain = dict(cast("Mapping[object, object]", value)) if isinstance(value, Mapping) else value
        fields = to_jsonable_python(plain, by_alias=False)
        written = json.dumps(fields, ensure_ascii=False)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        raise BadOutput(f"the {kind} that the handler returned cannot be kept as JSON: {error}") from None
    if not isinstance(fields, dict) or not fields:
        raise BadOutput(f"the {kind} that the handler returned has no fields")
    data = cast("dict[str, JsonValue]", fields)
    said = message.text if isinstance(message, AIMessage) else ""
    answer = data.get("answer")
    text = answer if isinstance(answer, str) else said or written
    return Report.model_construct(answer=text, data=data, structured_type=kind)
