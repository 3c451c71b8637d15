"""Doubles and drills for tests of your own agents."""
