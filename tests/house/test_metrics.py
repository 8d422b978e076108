"""Metrics have one home."""

import re

from tests.house.files import SOURCES, name, python
from windlass import metrics

HOME = SOURCES[1] / "windlass" / "metrics.py"
ALL = {key: value for key, value in vars(metrics).items() if isinstance(value, metrics.Metric)}


def test_no_metric_is_made_or_named_elsewhere() -> None:
    kinds = "(Counter|Gauge|Histogram|Summary)"
    made = re.compile(rf'{kinds}\(\s*"|from prometheus_client import .*{kinds}')
    assert [name(path) for source in SOURCES for path in python(source) if path != HOME and made.search(path.read_text())] == []


def test_every_name_is_used_and_is_one_of_its_kind() -> None:
    told = "\n".join(path.read_text() for source in SOURCES for path in python(source) if path != HOME)
    assert [key for key in ALL if f"metrics.{key}." not in told] == []
    assert len({metric.name for metric in ALL.values()}) == len(ALL)
    for key, metric in ALL.items():
        made = re.search(rf"metrics\.{key}\.(\w+)\(", told)
        kind = "counter" if metric.name.endswith("_total") else "histogram" if metric.buckets else "gauge"
        assert made is not None
        assert made[1] == kind, key
        assert re.fullmatch(r"windlass_[a-z_]+", metric.name)
