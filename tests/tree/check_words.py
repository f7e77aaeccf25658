#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where sources, docs or scripts use words that were given up for plain English.
Usage: check_words.py [ROOT]"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sources import CODE, files, lines, main

# Pattern, and what to write instead.
ANYWHERE = [
    (r"\bforet(old|ell(s|ing)?)\b", "predicted"),
    (r"\bnot there\b", "missing, not available"),
    (r"\bis not here\b", "is missing, is not available"),
    (r"\bbeyond doubt\b", "significantly"),
    (r"\bhas the last word\b", "decides"),
    (r"\bstands for hardware\b", "emulates"),
]
# In messages alone: "there is no X" is good English, "X is no Y" is not.
IN_MESSAGES = [(r"(?<![tT]here) is no (?!longer\b)[\w{]+", "invalid X '...': expected Y")]
ANYWHERE = [(re.compile(pattern, re.IGNORECASE), better) for pattern, better in ANYWHERE]
IN_MESSAGES = [(re.compile(pattern), better) for pattern, better in IN_MESSAGES]
LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
TEXT = CODE | {".md", ".py", ".sql", ".js", ".html", ".css", ".cmake", ".json", ".txt", ""}
# This folder spells the words out; a corpus and a golden hold what somebody else wrote.
SKIPPED = re.compile(r"tests/tree/|tests/fuzz/corpus/|tests/.*/golden/")


def check(root: Path) -> list[str]:
    findings = []
    for path in files(root):
        if path.suffix not in TEXT or SKIPPED.match(str(path)):
            continue
        for number, line in enumerate(lines(root / path), 1):
            texts = [(line, ANYWHERE)]
            if path.suffix in CODE:
                texts += [(literal, IN_MESSAGES) for literal in LITERAL.findall(line)]
            for text, rules in texts:
                for pattern, better in rules:
                    match = pattern.search(text)
                    if match:
                        findings.append(f"{path}:{number}: '{match[0].strip()}': write {better}")
    return findings


if __name__ == "__main__":
    main(check)
