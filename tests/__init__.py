"""Tests of ocisync."""
