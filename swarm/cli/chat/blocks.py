"""Where the Markdown of an answer that is still being written is sure to be whole. Pure; knows no terminal."""

from __future__ import annotations

import re

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r" *(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
_ITEM = re.compile(r" *(?:[-*+]|\d{1,9}[.)])[ \t]")
_PERHAPS_ITEM = re.compile(r" *(?:[-*+]|\d{1,9}[.)]?)?$")  # how one may begin
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """A model may write anything: what would steer the terminal becomes a sign that shows it."""
    return text.translate(_CONTROLS)


def with_breaks(text: str) -> str:
    """Markdown that keeps the ends of lines where its rules would join them: who chats means them."""
    fence, lines = "", []
    for line in text.split("\n"):
        opening = _FENCE.match(line)
        if fence:
            fence = "" if _closes(line, fence) else fence
        elif opening:
            fence = opening[1]
        elif line.strip():
            line = line.rstrip() + "  "
        lines.append(line)
    return "\n".join(lines)


def ending(text: str, most: int) -> str:
    """The last lines of a block that is longer than `most` characters; of a fence still a fence."""
    if len(text) <= most:
        return text
    cut = text.find("\n", len(text) - most) + 1 or len(text) - most
    begun = text.lstrip("\n")
    return (begun[: begun.find("\n") + 1] if _FENCE.match(begun) else "") + text[cut:]


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def finished(text: str) -> int:
    """How many characters from the beginning are blocks that nothing which follows can change.

    A block ends at a blank line when what follows does not belong to it, a heading with its line, a fence with its end.
    """
    end = start = 0  # of what is finished; of the line
    fence = ""  # the marks that end the fence we are in
    blank, in_list, begun = False, False, False  # the line before was; the block is one; the block has a line
    for line in _LINE.findall(text):
        whole = line.endswith("\n")
        bare = line.strip()
        if fence:
            if whole and _closes(line, fence):
                fence = ""
                if not in_list:
                    end, begun = start + len(line), False
        elif not bare:
            blank = blank or begun
        else:
            if blank and begun:
                goes_on = in_list and (line[0] == " " or _ITEM.match(line) or (not whole and _PERHAPS_ITEM.match(line)))
                if not goes_on:
                    end, begun, in_list = start, False, False
            blank = False
            if not begun:
                in_list = bool(_ITEM.match(line))
            begun = True
            opening = _FENCE.match(line.rstrip("\n"))
            if whole and opening and not (opening[1][0] == "`" and "`" in opening[2]):
                fence = opening[1]
            elif whole and not in_list and _HEADING.match(line):
                end, begun = start + len(line), False
        start += len(line)
    return end
