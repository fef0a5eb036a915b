"""Steadfast: five medical-imaging papers, from the published archives to the papers' tables."""
