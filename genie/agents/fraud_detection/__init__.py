"""Fraud detection: payments that stand out, each with its reasons."""
