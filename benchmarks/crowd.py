"""The load of `benchmarks.load`: many readers of events and many submitters of jobs, in one process.

    python -m benchmarks.crowd URL JOB DATASET --readers 200 --submitters 50 --seconds 20

Prints one line of JSON. Readers are bare sockets, so that the crowd costs the machine as little as it can.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import httpx

TASK = {"template": "{text} =>", "options": {"ok": "yes", "no": "no"}}
PROFILE = {
    "subset": {"kind": "lora", "rank": 2, "last_layers": 1},
    "method": {"kind": "two-point", "epsilon": 0.01},
    "rule": {"kind": "sgd", "learning_rate": 0.01},
    "batch": {"examples": 2, "max_tokens": 32},
    "steps": 1,
}
PAUSE_S = 1.0


class Crowd:
    """All readers and submitters.

    Args:
        url: Of the server.
        job: The running job, which the readers follow.
        dataset: What the submitters' jobs learn from.
        end: When they stop, by the monotonic clock.
    """

    def __init__(self, url: str, job: str, dataset: str, end: float) -> None:
        self._url, self._job, self._dataset, self._end = url, job, dataset, end
        self.errors: Counter[str] = Counter()
        self.events: list[int] = []
        self.requests = 0
        self.seconds: list[float] = []

    async def run(self, readers: int, submitters: int) -> None:
        """Runs all readers and submitters until the end."""
        limits = httpx.Limits(max_connections=submitters, max_keepalive_connections=submitters)
        async with httpx.AsyncClient(base_url=self._url, timeout=60, limits=limits) as client:
            tasks = [self._read() for _ in range(readers)]
            tasks += [self._submit(client, index / max(submitters, 1)) for index in range(submitters)]
            await asyncio.gather(*tasks)

    async def _read(self) -> None:
        """Follows the job from its present step, and counts events without parsing them."""
        place = urlsplit(self._url)
        count = 0
        try:
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(
                f"GET /jobs/{self._job}/events HTTP/1.1\r\nHost: {place.netloc}\r\n"
                f"Last-Event-ID: 999999999\r\n\r\n".encode()
            )
            if b" 200 " not in await reader.readline():
                self.errors["reader was refused"] += 1
            try:
                async with asyncio.timeout(self._end - time.monotonic()):
                    while data := await reader.read(1 << 16):
                        count += data.count(b"event: step")
                self.errors["stream ended early"] += 1
            except TimeoutError:
                writer.close()
        except OSError as error:
            self.errors[f"reader: {type(error).__name__}"] += 1
        self.events.append(count)

    async def _submit(self, client: httpx.AsyncClient, phase: float) -> None:
        """Posts a job, reads it, cancels it, deletes it, and pauses, again and again."""
        await asyncio.sleep(phase * PAUSE_S)
        body = {"dataset": self._dataset, "profile": PROFILE, "task": TASK, "priority": -100}
        while time.monotonic() < self._end:
            posted = await self._ask(client, "POST", "/jobs", 202, json=body)
            if posted is not None:
                path = f"/jobs/{posted.json()['id']}"
                await self._ask(client, "GET", path, 200)
                await self._ask(client, "POST", f"{path}/cancel", 202)
                await self._ask(client, "DELETE", path, 204)
            await asyncio.sleep(PAUSE_S)

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, expected: int, **more: Any
    ) -> httpx.Response | None:
        began = time.monotonic()
        self.requests += 1
        try:
            response = await client.request(method, path, **more)
        except httpx.TransportError as error:
            self.errors[f"{method}: {type(error).__name__}"] += 1
            return None
        self.seconds.append(time.monotonic() - began)
        if response.status_code != expected:
            self.errors[f"{method}: {response.status_code}"] += 1
            return None
        return response


def main() -> None:
    """Runs the crowd and prints what it saw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("job")
    parser.add_argument("dataset")
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--submitters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    crowd = Crowd(options.url, options.job, options.dataset, time.monotonic() + options.seconds)
    asyncio.run(crowd.run(options.readers, options.submitters))
    cuts = quantiles(crowd.seconds, n=100) if len(crowd.seconds) > 1 else [0.0] * 99
    found = {
        "readers": options.readers,
        "submitters": options.submitters,
        "errors": dict(crowd.errors),
        "events_fewest": min(crowd.events, default=0),
        "events_most": max(crowd.events, default=0),
        "requests": crowd.requests,
        "request_p50_s": round(cuts[49], 4),
        "request_p99_s": round(cuts[98], 4),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
