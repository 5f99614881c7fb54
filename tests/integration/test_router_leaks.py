"""Streams that end in every way leave nothing behind; `benchmarks.leaks` is the longer run."""

import sys
from pathlib import Path

import pytest

from benchmarks import leaks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process holds")

STREAMS = 600
GROWN_BYTES = 8 * 2**20
"""What an allocator may keep of a run so short, whatever the streams were."""


async def test_a_router_holds_after_many_streams_what_it_held_before(tmp_path: Path):
    report = await leaks.measure(tmp_path / "nats", STREAMS, concurrency=60, idle_s=0.3)
    shown = leaks.table(report)
    assert report.peak.sockets > report.before.sockets, shown
    assert report.after.sockets <= report.before.sockets, shown
    assert report.after.files <= report.before.files, shown
    assert report.after.tasks <= report.before.tasks, shown
    assert report.after.objects - report.before.objects < STREAMS, shown
    assert report.after.rss_bytes - report.before.rss_bytes < GROWN_BYTES, shown
