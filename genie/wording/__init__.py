"""Facts and the texts that state them: what an answer may state, how a fact is written, how a text is checked."""
