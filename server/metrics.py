"""Metrics for Prometheus, one registry for each app. Labels are names that the server defines, never users' data.

Counters are increased where events happen. Values that can be read (jobs by state, memory, free space) are read
when metrics are requested, so they cannot drift.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from steerzo_edge.records import Record, StepRecord

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SHORT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is read when metrics are requested.

    Args:
        name: The metric's name without the prefix.
        description: In words, with the unit.
        read: Returns the present value, or one for each value of the label.
        label: The label's name; None if it has none.
    """

    name: str
    description: str
    read: Callable[[], float | Mapping[str, float]]
    label: str | None = None


class Metrics:
    """The counters of one server; every method may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Resident memory, open files, CPU time, start of the process.
        ProcessCollector(registry=self.registry)
        self._steps = self._counter("steps", "Finished training steps.")
        self._forwards = self._counter("forwards", "Forward passes of training.")
        self._tokens = self._counter("trained_tokens", "Unpadded tokens put through the model by training.")
        self._step_s = self._histogram("step_seconds", "Seconds of a training step.", LONG_S)
        self._ended = self._counter("jobs_ended", "Jobs that ended, by their last state.", "state")
        self._prompts = self._counter("prompts", "Answered prompts, by how the answer ended.", "finish_reason")
        self._read = self._counter("prompt_tokens", "Tokens of answered prompts.")
        self._generated = self._counter("generated_tokens", "Tokens generated.")
        self._prompt_s = self._histogram("prompt_seconds", "Seconds from a prompt to its whole answer.", LONG_S)
        self._first_s = self._histogram("first_token_seconds", "Seconds from a prompt to its first text.", LONG_S)
        self._requests = self._counter("requests", "HTTP requests.", "method", "route", "status")
        self._request_s = self._histogram("request_seconds", "Seconds to a response's head.", SHORT_S, "route")
        self._errors = self._counter("errors", "Errors reported to users, by code.", "source", "code")
        self._spent: dict[str, tuple[int, int]] = {}

    def watch(self, gauges: Iterable[Gauge]) -> None:
        """Adds gauges."""
        self.registry.register(_Gauges(tuple(gauges)))

    def recorded(self, job: str, record: Record) -> None:
        """Counts a step of a job.

        A record holds the sums of forwards and tokens since the job's first step. For the first record after a
        restart the sums before it are not known, so its forwards and tokens are not counted.
        """
        if not isinstance(record, StepRecord):
            return
        spent = (record.forwards, record.tokens)
        before = self._spent.get(job, (0, 0) if record.step == 0 else spent)
        self._spent[job] = spent
        self._steps.inc()
        self._forwards.inc(max(0, spent[0] - before[0]))
        self._tokens.inc(max(0, spent[1] - before[1]))
        self._step_s.observe(record.seconds)

    def job_ended(self, job: str, state: str, code: str | None = None) -> None:
        """Counts a job that ended or was paused.

        Args:
            job: The job's id.
            state: Its new state.
            code: The code of its error, if it failed.
        """
        self._spent.pop(job, None)
        self._ended.labels(state).inc()
        if code is not None:
            self.failed("job", code)

    def answered(
        self,
        finish_reason: str,
        *,
        prompt_tokens: int,
        generated_tokens: int,
        seconds: float,
        first_text_s: float | None,
    ) -> None:
        """Counts an answered prompt.

        Args:
            finish_reason: "stop", "length", "cancelled" or "timeout".
            prompt_tokens: The prompt's length.
            generated_tokens: The answer's length.
            seconds: From the prompt's arrival to the end of the answer, waiting included.
            first_text_s: From the prompt's arrival to the first piece of text; None if there was none.
        """
        self._prompts.labels(finish_reason).inc()
        self._read.inc(prompt_tokens)
        self._generated.inc(generated_tokens)
        self._prompt_s.observe(seconds)
        if first_text_s is not None:
            self._first_s.observe(first_text_s)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answered HTTP request.

        Args:
            method: The request's method; an unknown one counts as "other".
            route: The route's template, never the path.
            status: The response's status.
            seconds: From the request to the response's head.
        """
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def failed(self, source: Literal["http", "stream", "job"], code: str) -> None:
        """Counts an error that was reported to a user."""
        self._errors.labels(source, code).inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"steerzo_{name}", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"steerzo_{name}", description, labels, registry=self.registry, buckets=buckets)


class _Gauges(Collector):
    def __init__(self, gauges: tuple[Gauge, ...]) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The gauges' names; their values are not read, for the server may not have started yet."""
        return [self._family(gauge) for gauge in self._gauges]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges with their present values."""
        for gauge in self._gauges:
            family, value = self._family(gauge), gauge.read()
            for label, number in value.items() if isinstance(value, Mapping) else [(None, value)]:
                family.add_metric([] if label is None else [label], number)
            yield family

    def _family(self, gauge: Gauge) -> GaugeMetricFamily:
        labels = [] if gauge.label is None else [gauge.label]
        return GaugeMetricFamily(f"steerzo_{gauge.name}", gauge.description, labels=labels)
