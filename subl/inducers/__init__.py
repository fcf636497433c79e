"""Giving a base model a trait."""
