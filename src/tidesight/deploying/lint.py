"""A look at manifests, ours or anybody's, for what is valid and bites all the same.

Each rule knows one way in which such a service has failed: with the file, the line, what happens, and what to do.
The rules of Kubernetes are in `lint_kubernetes.py`, those of autoscalers in `lint_autoscalers.py`, those of Cloud Run
and App Engine in `lint_serverless.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tidesight.deploying.documents import Document, Keys


@dataclass(frozen=True)
class Finding:
    """One thing that will bite.

    Attributes:
        path: File.
        line: In it, from 1.
        rule: Its name.
        detail: What happens, and what to do.
    """

    path: str
    line: int
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.detail}"


Told = tuple[Keys, str]
"""Where in the document, and what."""
Rule = Callable[[Document, Sequence[Document]], Iterator[Told]]
"""Looks at one document, with all others at hand."""


def lint(documents: Sequence[Document]) -> list[Finding]:
    """Everything found, by file and line."""
    found: set[Finding] = set()
    for document in documents:
        for name, rule in _rules():
            try:
                told = list(rule(document, documents))
            except (AttributeError, TypeError, ValueError):
                told = [
                    ((), f"not of the shape that its kind has, so {name} was not looked at; compare a rendered one")
                ]
                name = "shape"  # noqa: PLW2901
            found.update(Finding(str(document.path), document.line(*keys), name, detail) for keys, detail in told)
    return sorted(found, key=lambda one: (one.path, one.line, one.rule, one.detail))


def rules() -> dict[str, str]:
    """Every rule and what it is about."""
    return {name: (rule.__doc__ or "").splitlines()[0] for name, rule in _rules()}


def _rules() -> Iterable[tuple[str, Rule]]:
    from tidesight.deploying import lint_autoscalers, lint_kubernetes, lint_serverless

    for module in (lint_kubernetes, lint_autoscalers, lint_serverless):
        for rule in module.RULES:
            yield rule.__name__.replace("_", "-"), rule
