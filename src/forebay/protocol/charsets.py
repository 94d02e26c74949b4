"""Charsets that text of a form may have, and decoding that never fails.

The charsets are an allow-list. Python also has codecs that are no charsets (rot13, zip, idna,
unicode_escape), and charsets in which ASCII bytes mean something else (UTF-7, HZ, EBCDIC), so
that markup can hide in them. Labels are those of the WHATWG Encoding Standard, section 4.2, and
a few more that programs use.
"""

from __future__ import annotations

__all__ = ["codec_of", "name_of", "text_of"]

_LABELS = """
utf-8 utf8 unicode-1-1-utf-8
ascii us-ascii
iso8859-1 latin-1 latin1 l1
iso8859-8 iso-8859-8-i logical
koi8-r koi8
koi8-u
cp437 ibm437
cp850 ibm850
cp852 ibm852
cp866 ibm866
cp874 windows-874 tis-620
cp1252 ansi
mac-roman macintosh mac
mac-cyrillic x-mac-cyrillic
gb18030 gbk gb2312 gb-2312 x-gbk cp936 ms936 windows-936
big5hkscs big5 big5-hkscs x-x-big5 cn-big5
cp950 windows-950 ms950
euc_jp euc-jp x-euc-jp eucjp
iso2022_jp iso-2022-jp
cp932 shift-jis sjis x-sjis ms-kanji windows-31j ms932 windows-932
cp949 euc-kr ks-c-5601-1987 windows-949 ms949
johab
"""
_CODECS = {
    **{f"iso-8859-{n}": f"iso8859-{n}" for n in (*range(1, 12), 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259)},
    **{f"cp{n}": f"cp{n}" for n in range(1250, 1259)},
    **{
        label: codec
        for codec, *labels in map(str.split, _LABELS.strip().splitlines())
        for label in (codec.replace("_", "-"), *labels)
    },
}
_WIDE = {"utf-16": "utf-16", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be"}
"""Only for a field that names one itself: names and other fields of a form cannot have it."""
_OF_SEVERAL_BYTES = frozenset(
    {"gb18030", "big5hkscs", "cp950", "euc_jp", "iso2022_jp", "cp932", "cp949", "johab"}
)


def codec_of(label: str | None, *, wide: bool = False) -> str | None:
    """The Python codec of a charset's label, None when it is not allowed. `wide`: UTF-16 is."""
    if label is None:
        return None
    label = label.strip(" \t\"'").lower().replace("_", "-")
    return _CODECS.get(label) or (_WIDE.get(label) if wide else None)


def text_of(data: bytes | bytearray, codec: str) -> str:
    """`data` decoded by that codec, else as UTF-8, else as ISO-8859-1, which loses no byte. Never
    fails.
    """
    for one in (codec, "utf-8"):
        try:
            return data.decode(one)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def name_of(data: bytes, declared: str, other: str | None = None) -> str:
    """Decodes a name in a form. `declared`: codec that the form declares. `other`: codec of the
    part's content, which its name may have too. Never fails.

    UTF-8 is tried first, since most clients send it whatever they declare, and other text is
    hardly ever valid UTF-8. Short names in charsets of several bytes can be: there the declared
    codec is tried first.
    """
    first = declared if declared in _OF_SEVERAL_BYTES else "utf-8"
    for codec in (first, "utf-8", declared, other or "utf-8"):
        try:
            return data.decode(codec)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")
