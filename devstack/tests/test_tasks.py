import ast
import io
import re
import threading
from pathlib import Path

import pytest
from minicloud import process, up
from minicloud.tasks import Graph, Kind, Progress, Span, Task, TaskFailed, covered, longest_way


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    # A failing graph makes all later commands fail at once; here every test is a run of its own.
    monkeypatch.setattr(process, "_children", process._Children())
    return Graph(Progress(io.StringIO()))


def test_a_task_starts_after_what_it_needs(graph: Graph) -> None:
    order: list[str] = []
    graph.add("one", lambda: order.append("one"))
    graph.add("two", lambda: order.append("two"), ["one"])
    graph.add("three", lambda: order.append("three"), ["two"])
    graph.run()
    assert order == ["one", "two", "three"]


def test_independent_tasks_run_at_the_same_time(graph: Graph) -> None:
    meeting = threading.Barrier(2, timeout=600)

    def meet() -> None:
        meeting.wait()

    graph.add("one", meet)
    graph.add("two", meet)
    graph.run()


def test_a_failure_names_its_task_and_nothing_that_needs_it_runs(graph: Graph) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise RuntimeError("no such thing")

    graph.add("broken", fail)
    graph.add("dependent", lambda: ran.append("dependent"), ["broken"])
    with pytest.raises(TaskFailed, match="broken: no such thing"):
        graph.run()
    assert not ran


def test_a_failure_ends_commands_that_other_tasks_run(graph: Graph) -> None:
    running = threading.Event()

    def wait_long() -> None:
        running.set()
        process.run(["sleep", "300"])

    def fail() -> None:
        assert running.wait(600)
        raise RuntimeError("enough")

    graph.add("long", wait_long)
    graph.add("broken", fail)
    with pytest.raises(TaskFailed, match="enough"):
        graph.run()


def test_a_task_cannot_wait_for_one_that_does_not_exist(graph: Graph) -> None:
    with pytest.raises(ValueError, match="missing"):
        graph.add("one", lambda: None, ["missing"])


def test_the_whole_took_what_each_task_waited_for_last() -> None:
    spans = {"packages": Span(0, 30), "image": Span(30, 40), "build": Span(30, 100), "agent": Span(100, 107)}
    kinds = (Kind.DOWNLOADS, Kind.BUILDS, Kind.BUILDS, Kind.WAITING)
    needs: tuple[tuple[str, ...], ...] = ((), ("packages",), ("packages",), ("image", "build"))
    tasks = [
        Task(name, lambda: None, frozenset(after), kind) for name, after, kind in zip(spans, needs, kinds, strict=True)
    ]
    # The image was ready long before.
    assert longest_way(tasks, spans) == {Kind.DOWNLOADS: 30, Kind.BUILDS: 70, Kind.WAITING: 7}
    assert longest_way([], {}) == {}


def test_what_runs_at_the_same_time_counts_once() -> None:
    assert covered([Span(5, 9), Span(0, 4), Span(1, 3), Span(8, 11)]) == 4 + 6
    assert covered([]) == 0


def test_a_graph_tells_what_its_time_went_into(graph: Graph) -> None:
    graph.add("fetch", lambda: None, kind=Kind.DOWNLOADS)
    graph.add("fill", lambda: None, ["fetch"])
    graph.run()
    assert graph.spent() == (
        "on the longest way: downloads 0 s (0 s), builds 0 s (0 s), services 0 s (0 s), waiting 0 s (0 s)"
    )


def test_a_failed_command_shows_the_end_of_what_it_printed() -> None:
    with pytest.raises(process.CommandFailed, match="the reason"):
        process.run(["sh", "-c", "echo the reason >&2; exit 3"])


def test_every_step_of_up_is_reached() -> None:
    """A step that nothing names is a step that does not happen, whatever the documentation promises."""
    source = Path(up.__file__).read_text()
    steps = [
        node.name
        for definition in ast.parse(source).body
        if isinstance(definition, ast.ClassDef) and definition.name == "_Up"
        for node in definition.body
        if isinstance(node, ast.FunctionDef) and node.name != "__init__"
    ]
    assert len(steps) > 10
    unused = [name for name in steps if not re.search(rf"\b(self|_Up\(.*\))\.{name}\b", source)]
    assert not unused
