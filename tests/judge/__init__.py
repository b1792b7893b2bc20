"""Tests of autoresearch.judge."""
