"""Tests of what needs no broker: `python3 -m unittest discover -s benches -t benches`."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from comparison import brokers, cases, clusters, load, machine, report, schedule
from comparison.brokers import Broker
from comparison.cases import LATENCY, OFFLINE, RATES, RETAINED, TRAFFIC
from comparison.interrupt import Interrupts
from comparison.load import Run
from comparison.machine import Machine
from comparison.process import TICKS_A_SECOND, ComparisonError
from comparison.report import Results

ONE_TO_ONE = TRAFFIC[0]
HERE = Machine("a processor", 2, 24.0, "Linux 6", "ext4")


def broker(name: str, has_sessions: bool = True, is_slow: bool = False) -> Broker:
    return Broker(name, "1.0", "nothing", has_sessions=has_sessions, is_slow=is_slow)


def delivered(name: str, *rates: float, foreign: float = 0.0) -> list[Run]:
    """Runs of one repetition each."""
    return [
        Run(
            repetition,
            ONE_TO_ONE.key,
            name,
            [],
            {"delivered_per_second": rate},
            foreign_cores=foreign,
        )
        for repetition, rate in enumerate(rates)
    ]


def failed(name: str, why: str) -> Run:
    return Run(0, ONE_TO_ONE.key, name, [], error=why)


class Medians(unittest.TestCase):
    figure = RATES[0]

    def test_are_of_the_runs_that_succeeded(self) -> None:
        results = Results([*delivered("a", 10, 1000, 30), failed("a", "silent")])
        self.assertEqual(results.value(self.figure, "a"), 30)
        self.assertIsNone(results.value(self.figure, "b"))

    def test_have_three_digits(self) -> None:
        texts = [
            report.number(value) for value in (1234567.8, 99.96, 12.34, 9.996, 0.126, 0.0049, None)
        ]
        self.assertEqual(texts, ["1,234,568", "100", "12.3", "10.0", "0.13", "0.005", "-"])

    def test_are_flagged_when_most_runs_had_company(self) -> None:
        runs = [*delivered("a", 1, 2, foreign=0.6), *delivered("a", 3)]
        cell = report.value_cell(Results(runs))
        self.assertEqual(cell(self.figure, "a"), "2.00 *")
        cell = report.value_cell(Results([*runs, *delivered("a", 4)]))
        self.assertEqual(cell(self.figure, "a"), "2.50")

    def test_that_nobody_has_are_told_as_failed_or_not_run(self) -> None:
        cell = report.value_cell(Results([failed("a", "silent")]))
        self.assertEqual(cell(self.figure, "a"), "failed")
        self.assertEqual(cell(self.figure, "b"), "-")


class Ratios(unittest.TestCase):
    def test_stand_in_a_row_for_each_case_that_was_run(self) -> None:
        results = Results([*delivered("ledgermq", 300), *delivered("mosquitto", 100)])
        cell = report.ratio_cell(results, "mosquitto", set())
        table = report.figures_table(
            RATES, ["ledgermq", "mosquitto", "relay"], results.cases(), cell
        )
        self.assertEqual(
            table.splitlines(),
            [
                "| case | unit | ledgermq | mosquitto | relay |",
                "| --- | --- | ---: | ---: | ---: |",
                "| QoS 0, one to one | msg/s | 3.00 | 1.00 | - |",
            ],
        )

    def test_of_times_are_above_one_for_the_faster(self) -> None:
        read = next(figure for figure in RATES if figure.case is RETAINED)
        results = Results(
            Run(0, RETAINED.key, name, [], {"read_milliseconds": time})
            for name, time in (("ledgermq", 50.0), ("mosquitto", 200.0), ("nats-sync", 20.0))
        )
        cell = report.ratio_cell(results, "mosquitto", {"nats-sync"})
        self.assertEqual(cell(read, "ledgermq"), "4.00")
        self.assertEqual(cell(read, "nats-sync"), "-", "it had less to read")

    def test_to_nothing_are_none(self) -> None:
        results = Results([*delivered("ledgermq", 300), *delivered("mosquitto", 0)])
        self.assertIsNone(results.ratio(RATES[0], "ledgermq", "mosquitto"))

    def test_are_to_whom_one_of_ours_is_put_against(self) -> None:
        self.assertEqual(report.bases(["ledgermq", "mosquitto", "nats-sync"]), ["mosquitto"])
        self.assertEqual(report.bases(["mosquitto", "nats-sync-3"]), [])
        three = ["ledgermq", "ledgermq-3", "nats-sync-3"]
        self.assertEqual(report.bases(three), ["ledgermq", "nats-sync-3"])


class Clusters(unittest.TestCase):
    def test_of_ours_are_there_when_all_nodes_vote_and_are_heard(self) -> None:
        text = '{"quorum": {"voters": %d, "online": %d}}'
        self.assertIsNotNone(clusters.voters(text % (3, 3), 3))
        for not_yet in (text % (1, 1), text % (3, 2), '{"quorum": {}}', "[]", "no JSON"):
            self.assertIsNone(clusters.voters(not_yet, 3), not_yet)

    def test_of_nats_keep_three_replicas_and_one_server_none(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for ports, wanted in (([1], False), ([1, 2, 3], True)):
                directory = Path(scratch) / str(len(ports))
                directory.mkdir()
                commands = list(clusters.nats("nats-server", "x", directory, ports, True))
                texts = [Path(command[-1]).read_text(encoding="utf-8") for command in commands]
                self.assertEqual(len(texts), len(ports))
                for text in texts:
                    self.assertEqual("stream_replicas: 3" in text, wanted)
                    self.assertEqual(text.count("nats-route://"), len(ports) if wanted else 0)
                    self.assertIn("sync_interval: always", text)


class Notes(unittest.TestCase):
    def notes(
        self, runs: list[Run], *present: Broker, machine: Machine = HERE, **absent: str
    ) -> str:
        return "\n".join(report.footnotes(Results(runs), present, absent, machine))

    def test_name_what_is_not_there(self) -> None:
        notes = self.notes(delivered("a", 1), broker("a"), relay="no such subcommand")
        self.assertIn("not there: relay (no such subcommand)", notes)

    def test_tell_failures_and_restarts(self) -> None:
        again = Run(1, ONE_TO_ONE.key, "b", [], {}, found_dead="exit code 0")
        notes = self.notes([*delivered("a", 1), failed("a", "silent"), again], broker("a"))
        self.assertIn("a, q0-1to1: 1 of 2 runs failed: silent", notes)
        self.assertIn("b had ended before q0-1to1 (repetition 2)", notes)

    def test_tell_how_much_else_ran(self) -> None:
        runs = [*delivered("a", 1, 2, foreign=0.2), *delivered("a", 3, foreign=1.5)]
        notes = self.notes(runs, broker("a"))
        self.assertIn("0.20 cores in the median run, 1.50 in the worst", notes)
        self.assertIn("above 0.5 in 1 of 3 runs", notes)

    def test_warn_of_a_scratch_directory_in_memory(self) -> None:
        in_memory = Machine("a processor", 2, 24.0, "Linux 6", "tmpfs")
        self.assertIn("on tmpfs", self.notes(delivered("a", 1), broker("a"), machine=in_memory))
        self.assertNotIn("tmpfs", self.notes(delivered("a", 1), broker("a")))

    def test_tell_who_had_less_to_store(self) -> None:
        slow = broker("nats-sync", is_slow=True)
        stored = Run(0, OFFLINE.key, "nats-sync", [], {})
        self.assertIn("nats-sync: 5,000 instead of 50,000", self.notes([stored], slow))
        self.assertNotIn("5,000 instead", self.notes(delivered("nats-sync", 1), slow))

    def test_blemishes_are_summed_where_there_are_any(self) -> None:
        result = {"lost": 2, "duplicates": 0, "out_of_order": None}
        runs = [Run(n, ONE_TO_ONE.key, "a", [], result) for n in range(2)]
        table = report.blemishes_table(Results(runs))
        self.assertIn("| a | q0-1to1 | 4 | 0 | 0 | 0 |", table)
        self.assertIn("No broker lost", report.blemishes_table(Results(delivered("a", 1))))


class Machines(unittest.TestCase):
    def test_load_of_others_leaves_interrupts_out(self) -> None:
        ticks = TICKS_A_SECOND
        stat = f"cpu  {ticks} {ticks} {ticks} 999 999 999 999 {ticks} 0 0\ncpu0 1\n"
        self.assertEqual(load.busy_seconds(stat), 4.0)

    def test_load_of_others_is_what_nobody_measured_used(self) -> None:
        before = load.Usage(at=10.0, machine=100.0, broker=5.0, own=1.0)
        after = load.Usage(at=12.0, machine=104.0, broker=7.0, own=2.0)
        self.assertEqual(after.foreign_since(before), 0.5)
        unknown = load.Usage(at=12.0, machine=104.0, broker=None, own=2.0)
        self.assertIsNone(unknown.foreign_since(before))

    def test_file_system_is_that_of_the_innermost_mount(self) -> None:
        mounts = (
            "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/my\\040disk xfs rw 0 0\n"
        )
        kinds = [
            machine.file_system(Path(place), mounts)
            for place in ("/var/x", "/tmp/x", "/tmp/my disk/x", "/tmpx")
        ]
        self.assertEqual(kinds, ["ext4", "tmpfs", "xfs", "ext4"])


class Interrupting(unittest.TestCase):
    def test_waits_for_what_must_be_whole_and_happens_once(self) -> None:
        interrupts = Interrupts()
        done = []
        with self.assertRaises(KeyboardInterrupt), interrupts.held():
            interrupts._on_signal()
            done.append("whole")
        self.assertEqual(done, ["whole"])
        interrupts._on_signal()
        with interrupts.held():
            interrupts._on_signal()


class Plans(unittest.TestCase):
    def test_relay_is_spared_what_it_cannot_do_and_beginners_change(self) -> None:
        three = [broker("a"), broker("b"), broker("relay", has_sessions=False)]
        turns = schedule.turns(three, [ONE_TO_ONE, OFFLINE, LATENCY], repetition=0)
        order = [(case.key, broker.name) for broker, case in turns]
        self.assertEqual([name for key, name in order if key == "q0-1to1"], ["a", "b", "relay"])
        self.assertEqual([name for key, name in order if key == "offline"], ["b", "a"])
        self.assertEqual([name for key, name in order if key == "latency"], ["relay", "a", "b"])

    def test_running_brokers_are_named_with_port_and_process(self) -> None:
        found = brokers.parse_running("mine=1884:77")
        self.assertEqual((found.name, found.port, found.pid), ("mine", 1884, 77))
        self.assertIsNone(brokers.parse_running("mine=1884").pid)
        for text in ("mine", "=1884", "mine=", "mine=x", "mine=1884:x"):
            with self.assertRaises(ComparisonError, msg=text):
                brokers.parse_running(text)

    def test_cases_are_selected_in_the_order_of_the_matrix(self) -> None:
        keys = [case.key for case in cases.select(["connect", "q0-1to1"])]
        self.assertEqual(keys, ["connect", "q0-1to1"])
        with self.assertRaisesRegex(ValueError, "no such case: x;"):
            cases.select(["x"])

    def test_slow_brokers_store_less(self) -> None:
        self.assertIn("5000", OFFLINE.command(4, is_slow=True))
        self.assertIn("50000", OFFLINE.command(4, is_slow=False))


if __name__ == "__main__":
    unittest.main()
