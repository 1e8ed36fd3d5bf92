"""Medians, ratios and footnotes as Markdown. Nothing here touches the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from statistics import median

from .brokers import NATS_CLUSTER, OWN, OWN_CLUSTER, RELAY, YARDSTICK, Broker
from .cases import BLEMISHES, COSTS, LATENCIES, RATES, STORED, STORED_BY_SLOW, Case, Figure
from .load import Run
from .machine import Machine

FOREIGN_CORES_MAX = 0.5
"""Other work on the machine, in cores, above which a run is flagged."""
PROMPTNESS = tuple(figure for figure in LATENCIES if "latency" in figure.path[0])
"""What tells of the broker, not of the generator."""
FLAG = " *"
FAILED = "failed"
NOTHING = "-"

Cell = Callable[[Figure, str], str]
"""Text for a figure and the name of a broker."""


class Results:
    """The runs of a comparison, by case and broker."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = list(runs)

    def of(self, case: Case, broker: str) -> list[Run]:
        """Runs of that case at that broker."""
        return [run for run in self.runs if (run.case, run.broker) == (case.key, broker)]

    def value(self, figure: Figure, broker: str) -> float | None:
        """Median of a figure over the runs that succeeded."""
        values = [figure.of(run.result) for run in self.of(figure.case, broker) if run.result]
        known = [value for value in values if value is not None]
        return median(known) if known else None

    def ratio(self, figure: Figure, broker: str, base: str) -> float | None:
        """How many times as good as `base` a broker is."""
        own, other = self.value(figure, broker), self.value(figure, base)
        if figure.is_less_better:
            own, other = other, own
        if own is None or other is None or other == 0:
            return None
        return own / other

    def is_flagged(self, case: Case, broker: str) -> bool:
        """Whether most runs had other work beside them."""
        runs = self.of(case, broker)
        return 2 * sum(is_flagged(run) for run in runs) > len(runs)

    def cases(self) -> set[str]:
        """Keys of the cases that were run."""
        return {run.case for run in self.runs}


def is_flagged(run: Run) -> bool:
    """Whether other work disturbed a run."""
    return run.foreign_cores is not None and run.foreign_cores > FOREIGN_CORES_MAX


def number(value: float | None) -> str:
    """To three digits or so, larger ones whole."""
    if value is None:
        return NOTHING
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    if abs(value) >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.0995 else f"{value:.3f}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], texts: int) -> str:
    """A table whose first columns are texts and whose others are numbers."""
    rule = ["---" if place < texts else "---:" for place in range(len(head))]
    lines = (f"| {' | '.join(row)} |" for row in (head, rule, *rows))
    return "\n".join(lines)


def value_cell(results: Results) -> Cell:
    """Cells with the medians."""

    def cell(figure: Figure, broker: str) -> str:
        runs = results.of(figure.case, broker)
        if runs and all(run.result is None for run in runs):
            return FAILED
        value = results.value(figure, broker)
        flag = FLAG if value is not None and results.is_flagged(figure.case, broker) else ""
        return number(value) + flag

    return cell


def ratio_cell(results: Results, base: str, slow: Container[str]) -> Cell:
    """Cells with the ratio to a broker; without those of brokers that had less to do."""

    def cell(figure: Figure, broker: str) -> str:
        if figure.is_of_size and broker in slow:
            return NOTHING
        return number(results.ratio(figure, broker, base))

    return cell


def figures_table(
    figures: Iterable[Figure], brokers: Sequence[str], cases: set[str], cell: Cell
) -> str:
    """A row for each figure of a case that was run, if somebody has it; a column a broker."""
    rows = []
    for figure in figures:
        cells = [cell(figure, broker) for broker in brokers]
        if figure.case.key in cases and set(cells) != {NOTHING}:
            rows.append([figure.title, figure.unit, *cells])
    return markdown(["case", "unit", *brokers], rows, texts=2) if rows else ""


def brokers_table(brokers: Iterable[Broker]) -> str:
    """What is compared, and what each promises."""
    rows = ([broker.name, broker.version, broker.durability] for broker in brokers)
    return markdown(["broker", "version", "what an acknowledgement promises"], rows, texts=3)


def blemishes_table(results: Results) -> str:
    """Messages lost, doubled, out of order or refused, where there are any."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for run in results.runs:
        for what in BLEMISHES:
            sums[run.broker, run.case, what] += (run.result or {}).get(what) or 0
    places = sorted({(broker, case) for (broker, case, _), count in sums.items() if count})
    rows = [
        [broker, case, *(f"{sums[broker, case, what]:,}" for what in BLEMISHES)]
        for broker, case in places
    ]
    if not rows:
        return "No broker lost, doubled, reordered or refused a message."
    head = ["broker", "case", *(what.replace("_", " ") for what in BLEMISHES)]
    return markdown(head, rows, texts=2)


def footnotes(
    results: Results, brokers: Sequence[Broker], absent: Mapping[str, str], machine: Machine
) -> list[str]:
    """What a reader has to know before believing the tables."""
    notes = [f"not there: {name} ({why})" for name, why in absent.items()]
    notes += _noise(results.runs)
    if machine.is_scratch_in_memory:
        notes.append(
            f"the scratch directory is on {machine.file_system}: a sync costs nothing there and "
            "keeps nothing, so that no figure of a broker that stores is one of its durability"
        )
    slow = [broker.name for broker in brokers if broker.is_slow]
    if slow and results.cases() & {"offline", "retained"}:
        notes.append(
            f"{', '.join(slow)}: {STORED_BY_SLOW:,} instead of {STORED:,} messages in the cases "
            "offline and retained; the time to read them is not comparable"
        )
    if any(not broker.has_sessions for broker in brokers):
        notes.append("relay: no case that needs sessions or retained messages; it is no broker")
    return notes + _restarts(results.runs) + _failures(results.runs)


def _noise(runs: Sequence[Run]) -> list[str]:
    known = [run.foreign_cores for run in runs if run.foreign_cores is not None]
    if not known:
        return ["other work on the machine: not known"]
    flagged = sum(is_flagged(run) for run in runs)
    return [
        f"other work on the machine: {median(known):.2f} cores in the median run, "
        f"{max(known):.2f} in the worst; above {FOREIGN_CORES_MAX} in {flagged} of {len(runs)} "
        f"runs (`{FLAG.strip()}`: in most runs of that figure)"
    ]


def _restarts(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.broker} had ended before {run.case} (repetition {run.repetition + 1}) and was "
        f"started anew: {run.found_dead}"
        for run in runs
        if run.found_dead is not None
    ]


def _failures(runs: Sequence[Run]) -> list[str]:
    counts = Counter((run.broker, run.case) for run in runs)
    failures = Counter((run.broker, run.case) for run in runs if run.error)
    why = {(run.broker, run.case): run.error for run in runs if run.error}
    return [
        f"{broker}, {case}: {count} of {counts[broker, case]} runs failed: {why[broker, case]}"
        for (broker, case), count in failures.items()
    ]


def bases(names: Sequence[str]) -> list[str]:
    """The brokers that others are put against: where one of ours is among these."""
    base_of_own = {
        YARDSTICK: (OWN, OWN_CLUSTER),
        RELAY: (OWN, OWN_CLUSTER),
        OWN: (OWN_CLUSTER,),
        NATS_CLUSTER: (OWN_CLUSTER,),
    }
    return [
        base
        for base, own in base_of_own.items()
        if base in names and any(name in names for name in own)
    ]


def document(
    runs: Iterable[Run],
    brokers: Sequence[Broker],
    absent: Mapping[str, str],
    machine: Machine,
    head: Sequence[str],
) -> str:
    """Everything as one Markdown text, behind lines that say when and how it was run."""
    results = Results(runs)
    names = [broker.name for broker in brokers]
    slow = {broker.name for broker in brokers if broker.is_slow}

    def table(title: str, figures: Iterable[Figure], cell: Cell) -> list[str]:
        text = figures_table(figures, names, results.cases(), cell)
        return [f"### {title}", text] if text else []

    parts = ["\n".join(f"- {line}" for line in head), "### Brokers", brokers_table(brokers)]
    parts += table("Throughput (medians)", RATES, value_cell(results))
    for base in bases(names):
        title = f"How many times as good as {base}"
        parts += table(title, (*RATES, *PROMPTNESS), ratio_cell(results, base, slow))
    parts += table("Broker CPU, all threads (medians)", COSTS, value_cell(results))
    parts += table("Latency at a fixed rate (medians)", LATENCIES, value_cell(results))
    parts += ["### Loss, duplicates, disorder", blemishes_table(results)]
    notes = footnotes(results, brokers, absent, machine)
    parts += ["### Notes", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts)
