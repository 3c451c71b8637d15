"""Fraud detection: flags payments that stand out, each with its reasons."""
