"""The receivers of traces as fixtures; the story is played once for each module that asks for it."""

from tests.crash.conftest import processes
from tests.support.household import sample_file
from tests.support.tracing.langsmith_client import langsmith, open_langsmith
from tests.support.tracing.telemetry import collector, telemetry

__all__ = ["collector", "langsmith", "open_langsmith", "processes", "sample_file", "telemetry"]
