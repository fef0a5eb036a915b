"""Renderers of synthetic patients whose truth is known."""
