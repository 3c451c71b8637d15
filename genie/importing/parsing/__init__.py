"""Parses what files print: amounts, dates, column headers, and whether an amount comes in or goes out."""
