"""Measures the other rooms through their public calls, the same ones a user has."""
