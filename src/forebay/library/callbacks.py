"""The part of `Forebay` that takes callbacks of the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from forebay.library.hook_adapters import completer, deleter, verifier, watcher
from forebay.library.lifecycle import Lifecycle

Callback = TypeVar("Callback", bound=Callable[..., Any])


class Callbacks(Lifecycle):
    """Decorators that add a callback, plain or async. Plain ones run in threads. Each raises
    ConfigError for what cannot be called.
    """

    def on_verify(self, function: Callback) -> Callback:
        """`function(upload)` is called before a file is published. It refuses the file by raising
        VerificationRefused, or by returning False.
        """
        self._hooks.verifiers.append(verifier(function, lambda: self.engine))
        return function

    def on_complete(self, function: Callback) -> Callback:
        """`function(upload)` is called after a file was published: at least once, each time with
        the same `upload.id`.
        """
        self._hooks.completers.append(completer(function, lambda: self.engine))
        return function

    def on_progress(self, function: Callback) -> Callback:
        """`function(upload, received)` is called while a body arrives, at most ten times a second,
        and when it has arrived; `received` is in bytes. A slow function misses reports; only the
        last one is waited for, at most five seconds.
        """
        self._hooks.watchers.append(watcher(function, lambda: self.engine))
        return function

    def on_delete(self, function: Callback) -> Callback:
        """`function(upload)` is called after a file was removed by a client or the application.

        `name`, `size`, `principal` and, for a client, `head` are set; the content is gone. It is
        called once, and not again after a crash. It is not called for a file that was removed
        because its handler failed: `on_complete` was not called for that either. An exception is
        logged.
        """
        self._hooks.deleters.append(deleter(function, lambda: self.engine))
        return function
