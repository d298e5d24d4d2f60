"""Tests; a package, so that tests/learn is not mistaken for learn."""
