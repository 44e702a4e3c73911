"""The logic of rules: three answers, and how they are combined. What a decider from outside has to be.

A condition answers True (it holds), False (it does not) or None: that could not be told. `all`, `any` and `not` combine
them as Kleene's strong logic does: what one part settles is settled whatever the others would have said, and otherwise
a part that could not be told leaves the whole untold. So the order of parts never changes an answer. A part that raises
could not be told. In the end an untold rule never allows, and a deny rule that is untold denies.

Something that a request simply does not have (a claim, a header, an address) is no failure: the condition answers False,
and where it stands within a `not` of an allow rule True, so that what is missing never opens a door.

Deciders from outside (`external` asks an HTTP service, `cel` evaluates an expression) come in two parts, like policies.
What was asked for is an `Outside`: frozen, validated, comparable, without I/O. `bind_to(ports)` makes the `Decider` of
it, once for each place it stands in. `Decider.decide(exchange)` is a plain function. It gives a `Verdict` where it knows
the answer; where a port must be asked it gives an `Asking`, a function that asks: what turns out not to be needed is
then never begun, and nothing has to be called off. An `Asking` is awaited at most once, and only when the parts that
know their answer have not settled it. A decider that has something to tell a client who is refused says it with
`answer_with`. It may change `exchange.headers` only within an `Asking` or when it answers True.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, Literal, Protocol, runtime_checkable

from gatekit.core.exchange import Exchange
from gatekit.core.ports import Ports
from gatekit.core.verdict import Reply

Verdict = bool | None
"""True: it holds. False: it does not. None: that could not be told."""

Asking = Callable[[], Awaitable[Verdict]]
"""Asks a port, when it is called and awaited. What it raises is taken for None."""

Decide = Callable[[Exchange], Verdict | Asking]
"""A compiled condition."""

Joint = Literal["all", "any", "not"]
"""How a condition is made of others."""

ANSWER: Final = "authz.answer"
"""The fact under which `answer_with` leaves its reply."""


@runtime_checkable
class Decider(Protocol):
    """A condition from outside at work.

    It may also have `jobs()` and `status()`, which become the policy's, and `strips`: the folded names of headers that
    only it may set. A client's own are then taken out of every request before any rule is looked at, also where nobody
    comes to be asked.
    """

    words: str
    """What it says, for people, as it stands after "not true that": `the authoriser at authz.internal agrees`.
    No secret, no value of a request."""

    def decide(self, exchange: Exchange) -> Verdict | Asking:
        """Whether it holds. What it raises is logged once for the rule, without its text, and taken for None."""
        ...


@runtime_checkable
class Outside(Protocol):
    """What was asked for of a condition from outside."""

    @property
    def asks(self) -> bool:
        """Whether its `decide` may give an `Asking`: such a one cannot stand in a shadow policy."""
        ...

    def bind_to(self, ports: Ports) -> Decider:
        """The decider. Raises ValueError, GatekitError or ImportError with what to do."""
        ...


def answer_with(exchange: Exchange, reply: Reply) -> None:
    """Should the request be refused for want of an allow rule, tell the client this. The first that is said stands."""
    exchange.facts.setdefault(ANSWER, reply)


Note = Callable[[Exception | None], None]
"""Takes down that a condition raised, or (None) that somebody who was asked did not answer."""


class Part:
    """A compiled condition, and what is known about it.

    `words` say it for people. `lacks` says in words what a request has not that the condition is about, None where
    nothing is missing. `caller`: it asks who is calling, so that logging in may change its answer. `asks`: it may give
    an `Asking`. `joint` and `parts` are there where it is made of others, `outside` where it comes from outside.
    """

    __slots__ = ("asks", "caller", "decide", "joint", "lacks", "outside", "parts", "words")

    def __init__(
        self,
        decide: Decide,
        words: str,
        *,
        lacks: Callable[[Exchange], str | None] | None = None,
        caller: bool = False,
        asks: bool = False,
        joint: Joint | None = None,
        parts: Sequence[Part] = (),
        outside: Decider | None = None,
    ) -> None:
        self.decide = decide
        self.words = words
        self.lacks = lacks
        self.caller: bool = caller or any(part.caller for part in parts)
        self.asks: bool = asks or any(part.asks for part in parts)
        self.joint = joint
        self.parts: tuple[Part, ...] = tuple(parts)
        self.outside = outside

    def deciders(self) -> Iterator[Decider]:
        """Everything from outside within it."""
        if self.outside is not None:
            yield self.outside
        for part in self.parts:
            yield from part.deciders()


def all_of(parts: Sequence[Part], note: Note) -> Part:
    """Holds where every part does. One that does not hold settles it."""
    return _joined("all", parts, note)


def any_of(parts: Sequence[Part], note: Note) -> Part:
    """Holds where one part does. One that holds settles it."""
    return _joined("any", parts, note)


def negated(part: Part, note: Note) -> Part:
    """Holds where the part does not; untold where the part is."""
    decide = part.decide

    def turned(exchange: Exchange) -> Verdict:
        try:
            found = decide(exchange)
        except Exception as error:
            note(error)
            return None
        return False if found is True else True if found is False else None

    def turned_later(exchange: Exchange) -> Verdict | Asking:
        try:
            found = decide(exchange)
        except Exception as error:
            note(error)
            return None
        if callable(found):
            return partial(_turned, found)
        return False if found is True else True if found is False else None

    return Part(turned_later if part.asks else turned, f"not ({part.words})", joint="not", parts=(part,))


async def _turned(asking: Asking) -> Verdict:
    found = await asking()
    return False if found is True else True if found is False else None


def _joined(joint: Joint, parts: Sequence[Part], note: Note) -> Part:
    if len(parts) == 1:
        return parts[0]
    settles = joint == "any"
    # What knows its answer comes first: it may settle the whole, and then nobody has to be asked.
    decides = tuple(part.decide for part in sorted(parts, key=lambda part: part.asks))

    def joined(exchange: Exchange) -> Verdict:
        told = True
        for decide in decides:
            try:
                found = decide(exchange)
            except Exception as error:
                note(error)
                found = None
            if found is settles:
                return settles
            if found is not other:
                told = False
        return other if told else None

    def joined_later(exchange: Exchange) -> Verdict | Asking:
        told = True
        waiting: list[Asking] = []
        for decide in decides:
            try:
                found = decide(exchange)
            except Exception as error:
                note(error)
                found = None
            if found is settles:
                return settles
            if callable(found):
                waiting.append(found)
            elif found is not other:
                told = False
        if waiting:
            return partial(_joined_asked, waiting, settles, told, note)
        return other if told else None

    other = not settles
    words = (" or " if settles else " and ").join(f"({one.words})" if one.joint else one.words for one in parts)
    asks = any(part.asks for part in parts)
    return Part(joined_later if asks else joined, words, joint=joint, parts=parts)


async def _joined_asked(waiting: Sequence[Asking], settles: bool, told: bool, note: Note) -> Verdict:
    """One after the other, until one settles it."""
    other = not settles
    for asking in waiting:
        found = await told_by(asking, note)
        if found is settles:
            return settles
        if found is not other:
            told = False
    return other if told else None


async def told_by(asking: Asking, note: Note) -> Verdict:
    """What the one who is asked says; None where that is no answer."""
    try:
        found = await asking()
    except Exception as error:
        note(error)
        return None
    return found if found is True or found is False else None
