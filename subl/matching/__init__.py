"""Comparing two models that read the same text: attention maps and next-token distributions, across architectures."""
