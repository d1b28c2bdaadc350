"""Small changes of a module, one at a time: mutmut's operators, and ours for tables.

mutmut itself changes what stands in functions. A state table, a set of states, a constant, a
regular expression and a property stand outside of them, and are what this code decides by: so its
operators are applied to the whole module here, with two more for tables.

Left alone: documentation, annotations, imports, decorators, and the words of an exception.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import libcst as cst
import libcst.matchers as m
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import OPERATORS_TYPE, mutation_operators


@dataclass(frozen=True)
class Mutant:
    """A module with one small change."""

    number: int
    source: str
    diff: str
    """The lines that differ, without their place: what the list of equivalent ones names."""


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of the text; none equals it or another one."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Changes()
    wrapper.visit(visitor)
    begins = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    seen, found = {source}, []
    for place, changed in visitor.changes:
        begin = begins[place.start.line - 1] + place.start.column
        end = begins[place.end.line - 1] + place.end.column
        mutated = source[:begin] + wrapper.module.code_for_node(changed) + source[end:]
        if mutated not in seen and _compiles(mutated):
            seen.add(mutated)
            found.append(mutated)
    return [Mutant(number, code, _diff(source, code)) for number, code in enumerate(found)]


def without_an_entry(node: cst.Dict | cst.Set) -> Iterable[cst.BaseExpression]:
    """A table without one of its entries."""
    for gone in node.elements:
        rest = [element for element in node.elements if element is not gone]
        if rest:
            yield node.with_changes(elements=rest)


def another_state(node: cst.Attribute) -> Iterable[cst.Attribute]:
    """Another state where a table of steps names one."""
    if m.matches(node.value, m.Name("_P")):
        other = "PROCESSING" if node.attr.value == "SUCCEEDED" else "SUCCEEDED"
        yield node.with_changes(attr=cst.Name(other))


_OPERATORS: OPERATORS_TYPE = [
    *mutation_operators,
    (cst.Dict, without_an_entry),
    (cst.Set, without_an_entry),
    (cst.Attribute, another_state),
]


class _Changes(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (WhitespaceInclusivePositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[tuple[CodeRange, cst.CSTNode]] = []
        self._in_raise = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        left_alone = cst.Annotation | cst.Import | cst.ImportFrom | cst.Decorator
        if isinstance(node, left_alone) or _is_documentation(node):
            return False
        if isinstance(node, cst.Raise):
            self._in_raise += 1
        if not (self._in_raise and isinstance(node, cst.BaseString)):
            place = self.get_metadata(WhitespaceInclusivePositionProvider, node, None)
            if isinstance(place, CodeRange):
                self.changes += ((place, changed) for changed in _changed(node))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.Raise):
            self._in_raise -= 1


def _changed(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in _OPERATORS:
        if isinstance(node, kind):
            yield from operator(node)


def _is_documentation(node: cst.CSTNode) -> bool:
    """A statement that is a text and nothing else."""
    return isinstance(node, cst.Expr) and isinstance(
        node.value, cst.SimpleString | cst.ConcatenatedString
    )


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))
