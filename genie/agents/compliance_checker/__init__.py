"""The compliance checker: reviews plan and answer by rules in a data file, denies by default, masks identifiers."""
