"""One run of one handler: whether it may start, what it is given, how it ends."""
