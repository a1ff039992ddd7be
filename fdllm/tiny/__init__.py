"""The built-in tiny model: a synthetic corpus of word problems, its tokenizer, its training and its weights."""
