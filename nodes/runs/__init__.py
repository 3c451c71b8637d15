"""One run of one handler: whether it may start, which task it gets, and its outcome."""
