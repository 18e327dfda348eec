"""A crawl's counts as Prometheus metrics, made when they are asked for: nothing is counted twice, nothing is global."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from crawler.traffic import FETCH_BUCKETS_S

if TYPE_CHECKING:
    from crawler.report import CrawlStats, HostStats

__all__ = ["MOST_HOSTS", "OTHER_HOSTS", "CrawlMetrics"]

MOST_HOSTS = 50  # with a label of their own: a crawl of 10,000 hosts must not make 10,000 series
OTHER_HOSTS = "other"
_STAGES = ("explore", "load", "collect", "settle", "done")


class CrawlMetrics(Collector):
    """The metrics of one crawl, in a registry of their own; `update` is all that the crawl has to call.

    The first fifty hosts met keep their label to the end, so that no counter ever falls; the rest are "other".

    Args:
        site: its name, a label of `bassline_crawl_info`.
    """

    def __init__(self, site: str) -> None:
        self.registry = CollectorRegistry()
        self._site = site
        self._stats: CrawlStats | None = None
        self._named: set[str] = set()
        self.registry.register(self)

    def update(self, stats: CrawlStats) -> None:
        """Takes the stats that the crawl goes on filling in; its `on_progress`."""
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        """Nothing known ahead: keeps the registry from collecting when it is made."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, from the thread of whoever asks."""
        stats = self._stats
        info = GaugeMetricFamily("bassline_crawl_info", "The crawl that this process runs.", labels=["site"])
        info.add_metric([self._site], 1)
        yield info
        if stats is None:
            return
        yield from _whole(stats)
        yield from self._by_host(stats.hosts)

    def _by_host(self, hosts: tuple[HostStats, ...]) -> Iterator[Metric]:
        for host in hosts:
            if len(self._named) < MOST_HOSTS:
                self._named.add(host.host)
        shares: dict[str, list[HostStats]] = {}
        for host in hosts:
            shares.setdefault(host.host if host.host in self._named else OTHER_HOSTS, []).append(host)
        counters = {
            name: CounterMetricFamily(f"bassline_crawl_{name}", said, labels=["host"])
            for name, said in (
                ("requests", "Requests ended."),
                ("received_bytes", "Bytes of bodies received."),
                ("retries", "Second and later attempts."),
            )
        }
        gauges = {
            name: GaugeMetricFamily(f"bassline_crawl_{name}", said, labels=["host"])
            for name, said in (
                ("in_flight", "Requests in flight."),
                ("window", "Requests that may be in flight now."),
                ("waiting_images", "Image addresses not answered for yet."),
                ("parked_seconds", "For how long the host still wants to be left alone."),
            )
        }
        seconds = HistogramMetricFamily("bassline_crawl_fetch_seconds", "Seconds a request took.", labels=["host"])
        for name, share in shares.items():
            counters["requests"].add_metric([name], sum(host.requests for host in share))
            counters["received_bytes"].add_metric([name], sum(host.bytes for host in share))
            counters["retries"].add_metric([name], sum(host.retries for host in share))
            gauges["in_flight"].add_metric([name], sum(host.in_flight for host in share))
            gauges["window"].add_metric([name], sum(host.window for host in share))
            gauges["waiting_images"].add_metric([name], sum(host.pending for host in share))
            gauges["parked_seconds"].add_metric([name], max(host.parked_s for host in share))
            seconds.add_metric([name], _buckets(share), sum(host.fetch_s for host in share))
        yield from counters.values()
        yield from gauges.values()
        yield seconds


def _whole(stats: CrawlStats) -> Iterator[Metric]:
    stage = GaugeMetricFamily("bassline_crawl_stage", "1 for the stage the crawl is in.", labels=["stage"])
    for name in _STAGES:
        stage.add_metric([name], float(stats.stage == name))
    yield stage
    for name, said, value in (
        ("pages", "Result pages read by this run.", stats.pages),
        ("answered_images", "Image addresses answered for, earlier runs included.", stats.images_done),
        ("unchanged_images", "Images that a refresh asked for, and that have not changed.", stats.unchanged),
    ):
        yield CounterMetricFamily(f"bassline_crawl_{name}", said, value=value)
    for name, said, number in (
        ("categories", "Category pages explored.", stats.categories),
        ("products", "Products seen in listings that have a label.", stats.products),
        ("known_images", "Image addresses known so far.", stats.images),
        ("kept_images", "Samples in the set so far; settling may take some out.", stats.kept),
        ("run_seconds", "Since this run began.", stats.seconds),
    ):
        yield GaugeMetricFamily(f"bassline_crawl_{name}", said, value=number)
    if stats.refresh:
        found = GaugeMetricFamily(
            "bassline_crawl_refresh_products", "What a refresh found, from settling on.", labels=["change"]
        )
        for name, number in stats.refresh.items():
            found.add_metric([name], number)
        yield found
    if stats.eta_s is not None:
        yield GaugeMetricFamily(
            "bassline_crawl_eta_seconds", "Until the last image, where it can be known.", value=stats.eta_s
        )
    queue = GaugeMetricFamily("bassline_crawl_queue_length", "Waiting between the stages.", labels=["queue"])
    for name, waiting in (
        ("listings", stats.listings_left),
        ("examine", stats.to_examine),
        ("ledger", stats.to_ledger),
    ):
        queue.add_metric([name], waiting)
    yield queue
    dropped = CounterMetricFamily("bassline_crawl_dropped", "Image addresses by why not.", labels=["reason"])
    for reason, count in stats.dropped.items():
        dropped.add_metric([reason], count)
    yield dropped
    problems = CounterMetricFamily("bassline_crawl_problems", "Pages and images refused, by class.", labels=["reason"])
    for reason, problem in stats.problems.items():
        problems.add_metric([reason], problem.count)
    yield problems


def _buckets(hosts: list[HostStats]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    made, so_far = [], 0
    for place, edge in enumerate((*FETCH_BUCKETS_S, float("inf"))):
        so_far += sum(host.buckets[place] for host in hosts)
        made.append(("+Inf" if edge == float("inf") else str(edge), float(so_far)))
    return made
