"""Sentences: the verdict, the comparison with the lesson, warnings, provenance, and numbers as text."""
