"""Texts of the user's: files of characters that are read one behind the other, and a generated one."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np

from seqrnn.errors import DataError
from seqrnn.tables.files import Source, find_sources

MOST_BYTES = 2**30  # of all files, unpacked
GENERATED = 6_000  # words
WORDS = ("the", "a", "river", "road", "house", "old", "small", "green", "sees", "follows", "leaves", "finds", "then")


def sources_of(path: str | None, seed: int) -> list[Source]:
    """Returns the files of a text; of no path, a text that is generated.

    Raises:
        DataError: there is no such file.
    """
    if path is None:
        return [Source(Path("synthetic.txt"), content=_generated(seed).encode())]
    return find_sources(path)


def read_text(sources: list[Source], encoding: str) -> str:
    """Returns the text of all files, one behind the other. Line ends are ``\\n``, whatever they are in the files, and
    a byte-order mark is no character.

    Raises:
        DataError: a file cannot be read, is too large, or is no text in this encoding.
    """
    try:
        codec = codecs.lookup(encoding)
        is_of_text = getattr(codec, "_is_text_encoding", True)
    except LookupError:
        is_of_text = False
    if not is_of_text:
        raise DataError(
            f"task.encoding={encoding}: there is no such encoding; utf-8, latin-1, cp1252 and utf-16 are frequent"
        )
    texts, room = [], MOST_BYTES
    for source in sources:
        with source.opened() as file:
            content = file.read(room + 1)
        room -= len(content)
        if room < 0:
            raise DataError(f"{source.name}: the text is longer than {MOST_BYTES:,} bytes; name a part of it")
        texts.append(_decoded(source, content, encoding))
    return "".join(texts)


def _decoded(source: Source, content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        where = f", byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(
            f"{source.name}{where}: this is no text in {encoding}; name its encoding with task.encoding, such as "
            "latin-1, cp1252 or utf-16"
        ) from None
    if "\0" in text:
        raise DataError(
            f"{source.name}: character {text.index(chr(0)):,} is NUL, which no text has; is it another kind of file, "
            "or task.encoding=utf-16?"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _generated(seed: int) -> str:
    """Returns sentences of random words."""
    rng = np.random.Generator(np.random.Philox(seed))
    words = [WORDS[number] for number in rng.integers(len(WORDS), size=GENERATED)]
    sentences = [" ".join(words[n : n + 6]).capitalize() for n in range(0, GENERATED, 6)]
    return ".\n".join(sentences)
