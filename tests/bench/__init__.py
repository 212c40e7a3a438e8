"""Benchmarks: ocisync beside an anchor, in the same run, on real servers. See docs/benchmarks.md."""
