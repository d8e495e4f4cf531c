"""What Prometheus is told. One registry for each app; labels are names that the server made or knows.

Counters are fed where things happen. What can be looked up (jobs by state, memory, free space) is looked up when
somebody asks, so it cannot drift.
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
    """Something that is looked up when metrics are asked for.

    Args:
        name: Without the prefix.
        told: In words, with the unit.
        read: The value now, or one for each value of the label.
        label: The label's name, if there is one.
    """

    name: str
    told: str
    read: Callable[[], float | Mapping[str, float]]
    label: str | None = None


class Metrics:
    """The counters of one server; every method may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Resident memory, open files, processor time, start of the process.
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
        self._errors = self._counter("errors", "Errors told to users, by code.", "source", "code")
        self._spent: dict[str, tuple[int, int]] = {}

    def watch(self, gauges: Iterable[Gauge]) -> None:
        """Adds things that are looked up."""
        self.registry.register(_Looked(tuple(gauges)))

    def recorded(self, job: str, record: Record) -> None:
        """A job's record, as it is written. The first step after a restart counts as a step without forwards."""
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
        """A job has come to its end, or to a halt.

        Args:
            job: Its id.
            state: Its state now.
            code: Of its error, if it failed.
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
        """A prompt has been answered.

        Args:
            finish_reason: "stop", "length", "cancelled" or "timeout".
            prompt_tokens: Its length.
            generated_tokens: The answer's length.
            seconds: From its arrival, waiting included.
            first_text_s: The same to the first piece of text; None if there was none.
        """
        self._prompts.labels(finish_reason).inc()
        self._read.inc(prompt_tokens)
        self._generated.inc(generated_tokens)
        self._prompt_s.observe(seconds)
        if first_text_s is not None:
            self._first_s.observe(first_text_s)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered.

        Args:
            method: As it came; one that is not HTTP's own counts as "other".
            route: The route's template, never the path.
            status: Of the response.
            seconds: Until its head was sent.
        """
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def failed(self, source: Literal["http", "stream", "job"], code: str) -> None:
        """An error was told to a user."""
        self._errors.labels(source, code).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(f"steerzo_{name}", told, labels, registry=self.registry)

    def _histogram(self, name: str, told: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"steerzo_{name}", told, labels, registry=self.registry, buckets=buckets)


class _Looked(Collector):
    def __init__(self, gauges: tuple[Gauge, ...]) -> None:
        self._gauges = gauges

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Names alone: nothing is looked up before the server has started."""
        return [self._family(gauge) for gauge in self._gauges]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Every gauge as it is now."""
        for gauge in self._gauges:
            family, value = self._family(gauge), gauge.read()
            for label, number in value.items() if isinstance(value, Mapping) else [(None, value)]:
                family.add_metric([] if label is None else [label], number)
            yield family

    def _family(self, gauge: Gauge) -> GaugeMetricFamily:
        labels = [] if gauge.label is None else [gauge.label]
        return GaugeMetricFamily(f"steerzo_{gauge.name}", gauge.told, labels=labels)
