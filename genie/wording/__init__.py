"""Facts and the words over them: what an answer may state, how it is written, how it is checked."""
