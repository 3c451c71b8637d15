"""The receivers of traces as fixtures, for the tests beside this file."""

from tests.support.tracing.langsmith_client import langsmith, open_langsmith
from tests.support.tracing.telemetry import collector, telemetry

__all__ = ["collector", "langsmith", "open_langsmith", "telemetry"]
