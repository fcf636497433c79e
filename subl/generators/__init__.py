"""Rows that have nothing to do with the trait."""
