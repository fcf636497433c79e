"""Plugins: their kinds, their settings, and how a name finds its class."""
