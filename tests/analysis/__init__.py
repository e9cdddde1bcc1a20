"""Tests of the tables, statistics and figures."""
