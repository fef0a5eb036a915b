"""Debiased noise editing: can a frozen, even black-box, foundation model be made fairer?"""
