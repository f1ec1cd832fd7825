"""Tests with programs that are not Python's."""
