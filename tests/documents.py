"""Texts that no reader of a JSON document may take, or trip over."""

NO_DOCUMENTS = ("", "{", "[]", "[" * 100_000, "null", "{}", '"text"', "\x00\x01")
