"""What OpenTelemetry is told, as a fixture."""

from tests.support.tracing.telemetry import telemetry

__all__ = ["telemetry"]
