"""Wording shared by traits, generators and the micro world, as data."""
