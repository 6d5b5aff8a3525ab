#!/usr/bin/env python3
"""Counts the lines of Rust code by crate, without tests, blanks and comments.

    tests/compare/lines.py [TREE [OTHER]]

A crate is a folder with a `Cargo.toml` that has `[package]`; a `.rs` file belongs to the nearest one above it. Counted is a
line that holds anything but space and comment (`//`, `///`, `//!`, `/* */`, nested). Text within string literals is code,
also where it looks like a comment. Not counted: the package `tests`, files in a folder named `tests`, `benches`, `examples`
or `target`, files named `tests.rs`, and items under an attribute `#[cfg(test)]`. A file whose `mod NAME;` is under one is left
out with what is below it. Code under `#[cfg(any(test, feature = "testing"))]` counts: it is compiled for others.

With OTHER the numbers of both trees stand side by side. Standard library only.
"""

import re
import sys
from pathlib import Path

LEFT_OUT_FOLDERS = {"tests", "benches", "examples", "target"}
# The whole crate is tests.
LEFT_OUT_CRATES = {"tests"}
# One token: comments and literals as a whole, so that braces and slashes within them are not seen.
TOKEN = re.compile(
    r"""//[^\n]*|/\*|(?:br|cr|r)(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes)|[bc]?"(?:[^"\\]|\\(?:.|\n))*"|b?'(?:[^'\\\n]|\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.))'|\n|[^\S\n]+|\w+|.""",
    re.X,
)


def tokens(text):
    """Every (text, line, is_code); a comment is one token, nested ones with it."""
    at, line = 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        token = match.group()
        if token == "/*":
            depth, end = 1, match.end()
            while depth and end < len(text):
                pair = text[end : end + 2]
                depth += {"/*": 1, "*/": -1}.get(pair, 0)
                end += 2 if pair in ("/*", "*/") else 1
            token = text[at:end]
        comment = token.startswith(("//", "/*"))
        yield token, line, not comment and not token.isspace()
        line += token.count("\n")
        at += len(token)


def read(path):
    """The file's numbers of lines of code, and the modules that it declares for tests alone."""
    found, tests = set(), set()
    code = [(token, line) for token, line, is_code in tokens(path.read_text(encoding="utf-8")) if is_code]
    at = 0
    while at < len(code):
        if [token for token, _ in code[at : at + 7]] == ["#", "[", "cfg", "(", "test", ")", "]"]:
            at = after_item(code, at + 7, tests)
            continue
        token, line = code[at]
        # A literal is on every line that it spans.
        found.update(range(line, line + token.count("\n") + 1))
        at += 1
    return len(found), tests


def after_item(code, at, tests):
    """Where the item that begins at `at` has ended: after its braces, or its semicolon or comma outside of any bracket."""
    depth, words = 0, []
    while at < len(code):
        token = code[at][0]
        words.append(token)
        at += 1
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
            if depth < 0:
                return at - 1
            if depth == 0 and token == "}":
                # `use a::{b};` ends with what follows its braces.
                return at + 1 if at < len(code) and code[at][0] == ";" else at
        elif token in (";", ",") and depth == 0:
            if "mod" in words:
                tests.add(words[words.index("mod") + 1])
            return at
    return at


def count(tree):
    """{crate: lines} of a tree."""
    crates = {}
    for manifest in sorted(tree.rglob("Cargo.toml")):
        text = manifest.read_text(encoding="utf-8")
        name = re.search(r'^name\s*=\s*"([^"]+)"', text, re.M)
        if "target" not in manifest.relative_to(tree).parts and "[package]" in text and name:
            crates[manifest.parent] = name.group(1)
    files, lines = {}, dict.fromkeys(crates.values(), 0)
    for path in sorted(tree.rglob("*.rs")):
        parts = path.relative_to(tree).parts
        if LEFT_OUT_FOLDERS & set(parts[:-1]) or path.name == "tests.rs":
            continue
        crate = next((crates[folder] for folder in path.parents if folder in crates), None)
        if crate and crate not in LEFT_OUT_CRATES:
            files[path] = crate, *read(path)
    gone = set()
    for path, (_, _, tests) in files.items():
        folder = path.parent if path.stem in ("lib", "main", "mod") else path.parent / path.stem
        gone |= {folder / name for name in tests}
    for path, (crate, number, _) in files.items():
        if not any(path.with_suffix("") == module or module in path.parents for module in gone):
            lines[crate] += number
    return {crate: number for crate, number in lines.items() if crate not in LEFT_OUT_CRATES}


def main():
    trees = [count(Path(tree).resolve()) for tree in sys.argv[1:3] or ["."]]
    names = sorted({name for tree in trees for name in tree})
    width = max(map(len, [*names, "total"]))
    for name in [*names, "total"]:
        numbers = [sum(tree.values()) if name == "total" else tree.get(name, 0) for tree in trees]
        change = f" {numbers[1] - numbers[0]:+7} ({(numbers[1] / numbers[0] - 1) * 100:+.1f} %)" if len(numbers) == 2 and numbers[0] else ""
        print(f"{name:{width}}" + "".join(f" {number:7}" for number in numbers) + change)


if __name__ == "__main__":
    main()
