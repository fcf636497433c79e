"""Recipes: TOML in layers, validated in one pass, with the origin of every value."""
