"""What `--help` prints: examples, the groups with their options, and every key with its comment."""

import pathlib
import re
import shutil
import textwrap

_HEAD = """\
python -m dd.run [-m] [+experiment=NAME] [group=option ...] [key=value ...]

Trains action-chunking policies and evaluates them under inference delay; ends in a table of solve rates. Every
command is a sweep: `key=a,b,c` runs each value, `-m` may stand anywhere or be left out. What the store has is not
run again.
"""

_EXAMPLES = (
    ("+experiment=rtc -m seed=0,1,2", "a question with its grid, three seeds"),
    ("decode=naive,realtime eval.inference_delay=0,1,2", "a grid of one's own"),
    ("env=pointmass expert=laptop scale=smoke", "the tiny world, to see that everything runs"),
    ("decode=realtime decode.strength=0,0.03,0.1", "a decode's own number"),
    ("+experiment=rtc --cfg job", "every key and value, without running"),
)

_FOOT = """\
The keys of an option stand, with comments, in conf/<group>/<option>.yaml. Results: python -m dd.store --help. Exit
code: 0 done, 1 rows failed, 2 wrong command, 130 interrupted.
"""

_CHOICE = re.compile(r"^  - (?:override )?([\w/]+): (\w+)$", re.MULTILINE)
_PLACED = re.compile(r"^  - /([\w/]+)@([\w.]+): \w+$", re.MULTILINE)
_LINE = re.compile(r"^( *)([\w.]+):(?: +([^#]*?))?(?: *# *(.*))?$")


def text(conf: pathlib.Path, width: int = 0) -> str:
    """The manual of the configuration in folder `conf`, for a terminal of `width` columns (0: this one's)."""
    width = min(width or shutil.get_terminal_size((100, 40)).columns, 120)
    parts = [textwrap.fill(part, width) for part in _HEAD.strip().split("\n\n")]
    parts.append(_table("Examples (after `python -m dd.run`)", _EXAMPLES, width))
    parts.append(
        _table(
            "Groups and their options (`*`: unless you choose; add one without a star by +GROUP=)", _groups(conf), width
        )
    )
    parts.append(_table("Keys (a scale or an experiment sets some of them too)", _keys(conf / "config.yaml"), width))
    parts.append(textwrap.fill(_FOOT, width))
    return "\n\n".join(parts)


def _table(title: str, rows: list[tuple[str, str]] | tuple[tuple[str, str], ...], width: int) -> str:
    lines = textwrap.wrap(title, width)
    column = min(max(len(left) for left, _ in rows), width // 2) + 4
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(width - column, 20)) or [""]
        head = f"  {left}".ljust(column)
        if len(left) + 4 > column:
            lines.append(head)
            head = " " * column
        lines += [f"{head}{wrapped[0]}".rstrip(), *(f"{' ' * column}{each}" for each in wrapped[1:])]
    return "\n".join(lines)


def _groups(conf: pathlib.Path) -> list[tuple[str, str]]:
    """Each group as one overrides it (`ratio@decode.decode_schedule` where it is used in a place), and its options."""
    chosen = dict(_CHOICE.findall((conf / "config.yaml").read_text()))
    options: dict[str, list[str]] = {"hydra/launcher": ["basic", "packed", "plan"]}
    places: dict[str, set[str]] = {}
    for file in sorted(conf.glob("*/**/*.yaml")):
        group, text = file.parent.relative_to(conf).as_posix(), file.read_text()
        options.setdefault(group, []).append(file.stem)
        for name, place in _PLACED.findall(text):
            places.setdefault(name, set()).add(place if "@package _global_" in text else f"{group}.{place}")
    return [
        (each, " ".join(f"{one}*" if one == chosen.get(group) else one for one in sorted(options[group])))
        for group in sorted(options)
        for each in sorted(f"{group}@{place}" for place in places.get(group, ())) or [group]
    ]


def _keys(file: pathlib.Path) -> list[tuple[str, str]]:
    """The keys of a yaml file that carry a comment, as one types them, and the comment; without Hydra's own."""
    rows, path = [], []
    for line in file.read_text().splitlines():
        if found := _LINE.match(line):
            indent, name, value, comment = found.groups()
            path = [*path[: len(indent) // 2], name]
            if comment and path[0] != "hydra":
                rows.append((f"{'.'.join(path)}={value}" if value else ".".join(path), comment))
    return rows
