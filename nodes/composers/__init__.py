"""Composers: what makes one answer of several reports. `base` is the extension point."""
