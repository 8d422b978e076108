"""Source text to tokens."""

import re
from typing import NoReturn

from windlass.expressions.errors import CompileError

NAME, NUMBER, STRING, POINTER, END = "Identifier", "Number", "String", "Pointer", "EOF"

Token = tuple[str, str, int]
"""Kind, text and position. The kind of an operator, bracket or operator word is its own text."""

_WORDS = "not in or and matches contains startsWith endsWith let if else"
_OPERATORS = "( ) [ ] { } , ; . ?. ? ?? : :: | || + - * ** / % ^ ! != = == < <= > >= && .."
WORDS = frozenset(_WORDS.split())
_SYMBOLS = frozenset(_OPERATORS.split())

BLANK = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # what Unicode calls White_Space

_TOKEN = re.compile(
    rf"""[{BLANK}]*(?:
    (?P<name>(?:[^\W\d]|\$)[\w$]*)
    |(?P<number>(?:0[xX][0-9a-fA-F_]*|0[oO][0-7_]*|0[bB][01_]*|[0-9][0-9_]*|(?=\.[0-9]))(?:\.(?!\.)[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)
    |(?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*')
    |(?P<symbol>/(?![/*])|[&!=*<>][&=*]?|\|\|?|\?[.?]?|::?|\.\.?|[()\[\]{{}},;%+\-^])
    |(?P<raw>`[^`]*(?:``[^`]*)*`)
    |(?P<pointer>\#[\w$]*)
    |(?P<comment>//[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)
    |(?P<end>\Z)
    |(?P<other>.))""",
    re.VERBOSE | re.DOTALL,
)

_NAME, _NUMBER, _STRING, _SYMBOL, _RAW, _POINTER, _COMMENT, _END, _OTHER = range(1, 10)
"""The groups of that pattern, in order."""

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|u\{([0-9a-fA-F]{1,6})\})|\\(.?)",
    re.DOTALL,
)
_CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


def is_name(text: str) -> bool:
    """Whether every character may stand in a name; the pattern above lets a few digits through that may not."""
    return text.isascii() or all(c in "_$" or c.isalpha() or c.isdecimal() for c in text)


def tokens(source: str) -> list[Token]:
    """All tokens, closed by one of kind END; raises `CompileError` at the first character that starts none."""
    found: list[Token] = []
    add = found.append
    for match in _TOKEN.finditer(source):
        group = match.lastindex
        text, start = match[group], match.start(group)  # type: ignore[index,arg-type]  # some group always matches
        if group == _NAME:
            if not text.isascii() and not is_name(text):
                _fail(f"unrecognized character in {text}", start)
            add((text if text in WORDS else NAME, text, start))
        elif group == _SYMBOL:
            if text not in _SYMBOLS:
                _fail(f'unexpected token Operator("{text}")', start)
            add((text, text, start))
        elif group == _STRING:
            body = text[1:-1]
            if "\r" in body:
                body = body.replace("\r", "\n")
            add((STRING, _unescape(body, text[0], start) if "\\" in body else body, start))
        elif group == _NUMBER:
            following = source[match.end() : match.end() + 1]
            if following and (following in "_$" or following.isalpha() or following.isdecimal()):
                _fail(f'bad number syntax: "{text}{following}"', start)
            add((NUMBER, text, start))
        elif group == _RAW:
            add((STRING, text[1:-1].replace("``", "`"), start))
        elif group == _POINTER:
            if not is_name(text[1:]) or source.startswith("#", match.end()):
                _fail(f"unknown pointer {text}", start)
            add((POINTER, text[1:], start))
        elif group == _OTHER:
            literal = "literal not terminated" if text in "\"'`" else None
            _fail(literal or ("unclosed comment" if text == "/" else f"unrecognized character: U+{ord(text):04X}"), start)
    add((END, "", len(source)))
    return found


def _fail(message: str, position: int) -> NoReturn:
    raise CompileError(message, position)


def _unescape(body: str, quote: str, start: int) -> str:
    def character(match: re.Match[str]) -> str:
        control, *codes, unknown = match.groups()
        if control is not None and (control == quote or control in _CONTROLS):
            return _CONTROLS.get(control, control)
        if control is None and unknown is None:
            code = next(int(digits, 8 if at == 1 else 16) for at, digits in enumerate(codes) if digits is not None)
            if code <= 0x10FFFF:
                return "\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code)
        raise CompileError("invalid char escape", start + 1 + match.start())

    return _ESCAPE.sub(character, body)
