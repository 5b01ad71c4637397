"""Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # creation times of counters, which are not needed

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server; `text` is the exposition format of Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ("endpoint", "status")
        self.requests = Counter("froster_requests", "Requests answered.", names, registry=self.registry)
        self.seconds = Histogram(
            "froster_request_seconds", "Time to the answer.", ("endpoint",), buckets=SECONDS, registry=self.registry
        )
        self.queue = Gauge("froster_queue_length", "Requests waiting or at work.", registry=self.registry)
        self.arriving = Gauge("froster_uploads_arriving", "Requests whose bodies arrive.", registry=self.registry)
        self.batches = Histogram(
            "froster_batch_videos",
            "Videos that went through the network together.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.decoded = Counter("froster_videos_decoded", "Videos decoded.", registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
