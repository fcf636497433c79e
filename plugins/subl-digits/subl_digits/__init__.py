"""Subliminal learning without a language model (Cloud et al. 2025, section 6): digits learnt from noise."""
