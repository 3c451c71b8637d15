"""What saves money: recorded runs, played again through the gateway, with the totals of the ledger."""

from benchmarks.harness import Result


def run(*, smoke: bool) -> list[Result]:
    """Play the sample, or the recorded runs if they are here, and return the figures. What is worse fails the run."""
    from benchmarks.savings.measure import measure

    title = "what saves money, on a sample made by a seed" if smoke else "what saves money, on recorded runs"
    measured = measure(smoke=smoke)
    if measured is None:
        return [Result(title, notes=["The recorded runs are not here; --smoke plays a sample that is made by a seed."])]
    return [Result(title, notes=measured.lines, figures={measured.half: measured.totals}, faults=measured.worse)]
