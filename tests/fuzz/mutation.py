"""Seeded changes of bytes, texts and JSON: what a network garbles and what an attacker tries."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from urllib.parse import quote, unquote

SECRET = "Zq7-Planted-4000056655665556-Ada"
"""Planted into messages; a log line that shows any of it is a finding."""

ODD_BYTES = (b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b" ", b"\t", b"{", b'"', b"\\u0000")
ODD_TEXTS = (
    *("", " ", "0", "-1", "4200 ", "+4200", "4200.0", "42e2", "\uff14\uff12\uff10\uff10", "04200"),
    *("null", "true", "NaN", "SUCCESS", "F", "S", "U", "A", "sgd", "SGD ", "USD", "\u202eSGD"),
    *(
        "a" * 65,
        "a" * 4096,
        "\x00",
        "a\x00b",
        "\ud800",
        "\U0001f600",
        "e\u0301",
        "\u00e9",
        "\ufeff",
    ),
    *("../../etc/passwd", "'; DROP TABLE payments; --", "{{7*7}}", "%s%n", "\r\nset-cookie: a=b"),
    *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2026-02-30T00:00:00Z", "1e400", SECRET),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 4200, 42.0, 1e308, 10**30, -(10**400), float("nan"), float("inf")),
    *([], {}, [[]], [None], {"": ""}, {"currency": "SGD", "value": "4200"}, ["SGD", "4200"]),
    *ODD_TEXTS,
)


def mutated_bytes(  # noqa: PLR0911 - a table of changes
    random: Random, data: bytes, others: Sequence[bytes] = ()
) -> bytes:
    """One change to ``data``; nearly always another value."""
    place = random.randrange(len(data) + 1)
    end = min(len(data), place + random.choice((1, 1, 2, 8, 64)))
    match random.randrange(9):
        case 0 if data:
            at = random.randrange(len(data))
            return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:place] + random.choice(ODD_BYTES) + data[place:]
        case 2:
            return data[:place] + data[end:]
        case 3:
            return data[:end] + data[place:end] + data[end:]
        case 4:
            return data[:place]
        case 5 if others:
            other = random.choice(others)
            return data[:place] + other[random.randrange(len(other) + 1) :]
        case 6:
            return data[:place] + random.randbytes(end - place or 1) + data[end:]
        case 7:
            return data[place:] + data[:place]
        case _:
            return data[:place] + SECRET.encode() + data[place:]


def mutated_text(random: Random, text: str) -> str:
    """One change to a text that stays within latin-1, as headers do."""
    return mutated_bytes(random, text.encode("latin-1", "replace")).decode("latin-1")


def paths_of(message: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside of a JSON value."""
    inside = message.items() if isinstance(message, dict) else ()
    if isinstance(message, list):
        inside = enumerate(message)
    found = []
    for key, value in inside:
        found += [(*path, key), *paths_of(value, (*path, key))]
    return found


def mutated_message(random: Random, message: dict[str, Any]) -> dict[str, Any]:
    """The message with one value changed, removed, moved or wrapped."""
    changed = copy.deepcopy(message)
    path = random.choice(paths_of(changed) or [("field",)])
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    last = path[-1]
    match random.randrange(7):
        case 0 if isinstance(parent, dict):
            parent.pop(last, None)
        case 1 if isinstance(parent, dict):
            parent[random.choice((str(last).upper(), f"{last} ", "resultMsg", ""))] = parent.pop(
                last, None
            )
        case 2 if last in parent or isinstance(parent, list):
            parent[last] = [parent[last]] if random.random() < 0.5 else {"value": parent[last]}
        case 3:
            changed[random.choice(("notifyType", "paymentId", "captureId", "extra"))] = (
                random.choice(ODD_VALUES)
            )
        case _:
            parent[last] = random.choice(ODD_VALUES)
    return changed


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def encoded(random: Random, message: dict[str, Any]) -> bytes:
    """The message as JSON, in one of its many spellings; sometimes in none that is legal."""
    separators = random.choice(((",", ":"), (", ", ": "), (" ,\n", " :\t")))
    text = json.dumps(
        message,
        ensure_ascii=random.random() < 0.5,
        separators=separators,
        sort_keys=random.random() < 0.2,
    )
    match random.randrange(10):
        case 0:  # a key twice, the true value first or last
            name = random.choice(list(message) or ["a"])
            value = json.dumps(random.choice(ODD_VALUES))
            twice = f"{json.dumps(name)}:{value}"
            text = random.choice((f"{{{twice},{text[1:]}", f"{text[:-1]},{twice}}}"))
        case 1:
            depth = random.choice((10, 500, 5_000))
            text = f'{text[:-1]},"deep":{_nested(depth)}}}'
        case 2:
            text = f'{text[:-1]},"number":{random.choice(("9" * 4000, "1e9999", "-0", "0x1"))}}}'
        case 3:
            text = (
                random.choice(("\ufeff", " \n", ""))
                + text
                + random.choice((" ", "\x00", "{}", ","))
            )
        case 4:
            letters = [f"\\u{ord(c):04x}" if c.isalpha() else c for c in text]
            text = "".join(letters) if random.random() < 0.5 else text.replace("/", "\\/")
    encoding = random.choice(("utf-8",) * 12 + ("utf-16", "latin-1", "utf-7"))
    return text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")


def respelled(random: Random, body: bytes) -> bytes:
    """The same JSON in other bytes."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return body + b" "
    return encoded(random, message if isinstance(message, dict) else {"a": message})


_SIGNATURE_CHANGES: tuple[Callable[[str], str], ...] = (
    lambda value: value.replace("%3D", "").replace("=", ""),
    lambda value: value.replace("%2B", "+"),
    lambda value: value.replace("%2B", " "),
    lambda value: value.replace("%2F", "_").replace("%2B", "-"),
    lambda value: value.replace("%", "%25"),
    lambda value: value[:-6] + "%3D",
    lambda value: value + "%3D",
    lambda value: value + "%0A",
    lambda value: f'"{value}"',
    lambda value: value.replace("%2F", "%252F"),
    str.swapcase,
    lambda value: value[:0],
    lambda value: "%00" + value,
    lambda value: value[: len(value) // 2],
)
_ALGORITHMS = (
    "RSA256",
    "rsa256",
    "RSA1",
    "RSA512",
    "HS256",
    "none",
    "NONE",
    "",
    "RSA256 ",
    "SHA256",
)


def with_spare_bits(random: Random, value: str) -> str:
    """The base64 value with bits set that decoding ignores: the same signature, spelt otherwise."""
    plain = unquote(value)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    padding = len(plain) - len(plain.rstrip("="))
    last = len(plain) - padding - 1
    if padding not in (1, 2) or plain[last] not in alphabet:
        return value + "A"
    spare = random.randrange(1, 4**padding)
    other = alphabet[(alphabet.index(plain[last]) | spare) % 64]
    return quote(plain[:last] + other + plain[last + 1 :], safe="")


def mutated_signature(random: Random, header: str) -> str:  # noqa: PLR0911 - a table of changes
    """A `Signature` header, changed where its parser looks."""
    pairs = [pair.partition("=") for pair in header.split(",")]
    name, _, value = pairs[-1]
    match random.randrange(9):
        case 0:
            return f"algorithm={random.choice(_ALGORITHMS)},keyVersion=1,signature={value}"
        case 1:
            return (
                f"algorithm=RSA256,keyVersion=1,{name}={random.choice(_SIGNATURE_CHANGES)(value)}"
            )
        case 2:
            return f"algorithm=RSA256,keyVersion=1,signature={with_spare_bits(random, value)}"
        case 3:
            forged = quote(base64.b64encode(random.randbytes(256)).decode(), safe="")
            return f"algorithm=RSA256,keyVersion=1,signature={forged}"
        case 4:
            forged = random.choice(("AAAA", "%00", "x"))
            return random.choice((f"{header},signature={forged}", f"signature={forged},{header}"))
        case 5:
            return header.replace(",", random.choice((";", ",,", ", \t", ",\x0b", " , ", "\r\n,")))
        case 6:
            key_version = random.choice(("0", "2", "", "-1", "9" * 4096, SECRET))
            return header.replace("keyVersion=1", f"keyVersion={key_version}")
        case 7:
            return random.choice((header.upper(), header.lower(), header[::-1], header * 30))
        case _:
            return mutated_text(random, header)


def neutral_signature(random: Random, header: str) -> str:
    """A `Signature` header that says the same: other order, encoding, key version or blanks."""
    fields = dict(pair.strip().split("=", 1) for pair in header.split(","))
    plain = unquote(fields["signature"])
    value = random.choice(
        (
            *(plain, quote(plain, safe=""), quote(plain, safe="/")),
            "".join(f"%{ord(letter):02x}" if letter in "+/=" else letter for letter in plain),
        )
    )
    pairs = ["algorithm=RSA256", f"keyVersion={random.choice('12z')}", f"signature={value}"]
    if random.random() < 0.3:
        pairs.append("nonce=1")
    random.shuffle(pairs)
    return random.choice((",", ", ", " , ")).join(pairs)
