"""Instruments drawn in inches, the way makers measure them, then photographed at 150x150."""
