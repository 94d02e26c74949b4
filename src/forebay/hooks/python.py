"""Hooks that are Python callables, plain or async. Plain ones run in threads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from forebay.errors import ConfigError, VerificationRefused
from forebay.hooks import threads
from forebay.hooks.base import Access, Arrival, Candidate, Completion, Deletion
from forebay.hooks.identity import principal_of, refused
from forebay.model import Principal


class PythonHooks:
    """See `forebay.hooks.base.Hooks`. Callables may be added at any time.

    `authorise` returns a Principal, an id (text, an int or a UUID), or True for a client without
    a name; False refuses. Anything else, such as None, is a mistake of the application and
    refuses too (HookFailed).
    """

    def __init__(self, authorise: Callable[[Access], Any] | None = None) -> None:
        if authorise is not None:
            check_callable("authorise", authorise)
        self.authoriser = authorise
        self.verifiers: list[Callable[[Candidate], Any]] = []
        self.completers: list[Callable[[Completion], Any]] = []
        self.watchers: list[Callable[[Arrival], Any]] = []
        self.deleters: list[Callable[[Deletion], Any]] = []

    async def authorise(self, access: Access) -> Principal:
        if self.authoriser is None:
            return Principal.anonymous
        return principal_of(await call(self.authoriser, access))

    @property
    def verifies(self) -> bool:
        return bool(self.verifiers)

    async def verify(self, candidate: Candidate) -> None:
        for verifier in self.verifiers:
            judge_verdict(await call(verifier, candidate))

    @property
    def completes(self) -> bool:
        return bool(self.completers)

    async def complete(self, completion: Completion, returned: set[str]) -> None:
        await _call_each(self.completers, completion, returned)

    @property
    def progresses(self) -> bool:
        return bool(self.watchers)

    async def progress(self, arrival: Arrival) -> None:
        for watcher in self.watchers:
            await call(watcher, arrival)

    @property
    def deletes(self) -> bool:
        return bool(self.deleters)

    async def delete(self, deletion: Deletion) -> None:
        await _call_each(self.deleters, deletion, set())


async def _call_each(
    functions: Iterable[Callable[..., Any]], event: object, returned: set[str]
) -> None:
    """Calls each function whose name is not in `returned`, and adds the names of those that return.
    Raises the first error, after all were called.
    """
    errors: list[Exception] = []
    for name, function in named(functions):
        if name not in returned:
            try:
                await call(function, event)
                returned.add(name)
            except Exception as error:
                errors.append(error)
    if errors:
        raise errors[0]


def judge_verdict(answer: object) -> None:
    """Judges what an `on_verify` returned: None and True accept the file.

    Raises VerificationRefused for False, and HookFailed for anything else.
    """
    if answer is False:
        raise VerificationRefused
    if answer is not None and answer is not True:
        raise refused(
            "on_verify", answer, "Return nothing or True to take the file, False to refuse it."
        )


def check_callable(name: str, function: object) -> None:
    """Raises ConfigError for a value that cannot be called, or whose call would run nothing."""
    if not callable(function):
        raise ConfigError(f"{name} must be a function, not {function!r}.")
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(kind(function) or kind(getattr(function, "__call__", None)) for kind in kinds):  # noqa: B004
        raise ConfigError(
            f"{name} must be a plain or async function; {function!r} has a `yield`, so that "
            "calling it would run nothing of it."
        )


def named(functions: Iterable[Callable[..., Any]]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each function with a name that stays the same across restarts; numbered when several share
    one.
    """
    seen: dict[str, int] = {}
    for function in functions:
        inner = inspect.unwrap(function)
        module = getattr(inner, "__module__", type(inner).__module__)
        name = f"{module}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), function


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a hook: an async one on the event loop, a plain one in a thread, as it may wait."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    ):
        return await function(*args)
    answer = await threads.shared.run(_called, function, *args)
    return await answer if inspect.isawaitable(answer) else answer


def _called(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except StopIteration as error:  # no future can have it: its awaiter would wait for ever
        raise RuntimeError(f"{function!r} raised StopIteration") from error
