# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody waits for ever, and searches have no more than their share while tags wait."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.domain.lab.fairness import REMEMBERED, SMALLEST_SHARE, Start, Turns, Waiting, choose
from kwatch.domain.lab.job import Party, Purpose, Resource

BUILD = Resource.BUILD
TREES = ("next", "mainline", "stable", "tip")
SHARES = st.floats(SMALLEST_SHARE, 1.0)


def tag(tree: str) -> Party:
    return Party(tree=tree, purpose=Purpose.TAG)


def search(tree: str) -> Party:
    return Party(tree=tree, purpose=Purpose.SEARCH)


PARTIES = [make(tree) for tree in TREES for make in (tag, search)]


@dataclass(slots=True)
class Lab:
    """Slots, and who waits for one; whoever has had one longest gives it back by default."""

    slots: int
    share: float = 0.5
    now: float = 0.0
    waiting: list[Waiting] = field(default_factory=list)
    running: deque[Party] = field(default_factory=deque)
    turns: Turns = field(default_factory=Turns)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.turns = Turns(slots={BUILD: self.slots}, share=self.share)

    def ask(self, party: Party, *, is_interrupted: bool = False) -> int:
        number = next(self.numbers)
        self.waiting.append(
            Waiting(id=number, party=party, due=self.now, is_interrupted=is_interrupted)
        )
        return number

    def start(self, ends: int = 0) -> Waiting:
        """One that runs ends if no slot is free, and the next one begins."""
        if len(self.running) == self.slots:
            del self.running[ends % self.slots]
        self.now += 1
        chosen = choose(self.waiting, list(self.running), self.turns, BUILD)
        self.waiting.remove(chosen)
        self.running.append(chosen.party)
        self.turns = self.turns.after(BUILD, Start(party=chosen.party, at=self.now))
        return chosen

    def starts(self, count: int) -> list[Party]:
        return [self.start().party for _ in range(count)]


def test_with_one_slot_a_new_tag_goes_before_the_next_step_of_a_bisection() -> None:
    lab = Lab(slots=1)
    lab.ask(search("next"))
    lab.start()
    lab.ask(tag("next"))
    lab.now += 1
    lab.ask(search("next"))
    assert lab.starts(2) == [tag("next"), search("next")]


def test_with_one_slot_tags_and_a_bisection_take_turns() -> None:
    lab = Lab(slots=1)
    for _ in range(4):
        lab.ask(tag("next"))
    order = []
    for _ in range(4):
        lab.ask(search("next"))
        order += [party.purpose.value for party in lab.starts(2)]
    assert order == ["tag", "search"] * 4


def test_a_smaller_share_lets_more_tags_pass() -> None:
    lab = Lab(slots=1, share=0.25)
    for _ in range(8):
        lab.ask(tag("next"))
        lab.ask(search("next"))
    order = [party.purpose.value for party in lab.starts(8)]
    assert order == ["tag", "tag", "tag", "search"] * 2


def test_searches_fill_what_nobody_else_wants_and_make_room_again() -> None:
    lab = Lab(slots=4)
    for _ in range(20):
        lab.ask(search("next"))
    assert lab.starts(4) == [search("next")] * 4
    for _ in range(20):
        lab.ask(tag("next"))
    lab.starts(10)
    assert sorted(party.purpose.value for party in lab.running) == ["search"] * 2 + ["tag"] * 2


def test_searches_that_take_long_do_not_take_all_slots_from_tags_that_do_not() -> None:
    lab = Lab(slots=4)
    for _ in range(20):
        lab.ask(search("next"))
        lab.ask(tag("next"))
    for _ in range(12):
        quick = next((at for at, one in enumerate(lab.running) if one == tag("next")), 0)
        lab.start(quick)
    assert sorted(party.purpose.value for party in lab.running) == ["search"] * 2 + ["tag"] * 2


def test_a_tree_with_one_tag_does_not_wait_for_fifty_of_another() -> None:
    lab = Lab(slots=1)
    for _ in range(50):
        lab.ask(tag("next"))
    lab.start()
    lab.ask(tag("mainline"))
    assert lab.start().party == tag("mainline")


def test_the_tree_with_the_fewest_running_goes_first() -> None:
    running = [tag("next"), tag("next"), tag("mainline")]
    waiting = [Waiting(id=at, party=tag(tree), due=at) for at, tree in enumerate(TREES[:3])]
    turns = Turns(slots={BUILD: 4})
    assert choose(waiting, running, turns, BUILD).party.tree == "stable"
    assert choose(waiting[:2], running, turns, BUILD).party.tree == "mainline"
    # What its searches occupy is not held against its tags.
    assert choose(waiting[:1] + waiting[2:], [search("next")], turns, BUILD).party.tree == "next"


def test_within_a_tree_the_oldest_goes_first_and_the_interrupted_before_all() -> None:
    lab = Lab(slots=1)
    numbers = [lab.ask(tag("next")) for _ in range(3)]
    last = lab.ask(search("mainline"), is_interrupted=True)
    assert [lab.start().id for _ in range(4)] == [last, *numbers]


def test_other_resources_do_not_count() -> None:
    turns = Turns(slots={BUILD: 1}).after(Resource.BOOT, Start(party=tag("next"), at=9.0))
    waiting = [
        Waiting(id=1, party=search("next"), due=1.0),
        Waiting(id=2, party=tag("next"), due=2.0),
    ]
    assert choose(waiting, [], turns, BUILD).id == 2
    assert choose(waiting, [], turns, Resource.BOOT).id == 1


@given(share=SHARES, slots=st.integers(1, 9))
def test_the_quota_is_a_share_and_one_at_least(share: float, slots: int) -> None:
    turns = Turns(slots={BUILD: slots}, share=share)
    assert 1 <= turns.quota(BUILD) <= max(1, slots * share + 1e-6)
    assert 1 <= turns.patience < REMEMBERED


@pytest.mark.parametrize(
    ("share", "patience"), [(1.0, 1), (0.5, 1), (1 / 3, 2), (0.3, 3), (0.25, 3), (0.05, 19)]
)
def test_patience(share: float, patience: int) -> None:
    assert Turns(share=share).patience == patience


@given(
    slots=st.integers(1, 6),
    share=SHARES,
    victim=st.sampled_from(PARTIES),
    ahead=st.integers(0, 3),
    rivals=st.lists(st.sampled_from(PARTIES), max_size=6),
    before=st.integers(0, 30),
)
def test_nobody_waits_for_ever(
    *, slots: int, share: float, victim: Party, ahead: int, rivals: list[Party], before: int
) -> None:
    """However many come after it: every start of a rival brings another one."""
    lab = Lab(slots=slots, share=share)
    for rival in rivals:
        lab.ask(rival)
        lab.ask(rival)

    def go_on() -> int:
        chosen = lab.start()
        if chosen.party in rivals:
            lab.ask(chosen.party)
        return chosen.id

    if rivals:
        for _ in range(before):
            go_on()
    for _ in range(ahead):
        lab.ask(victim)
    number = lab.ask(victim)
    # As many as its purpose takes turns with, for each tree, for each job before it.
    round_trip = (len(TREES) + slots) * (lab.turns.patience + 2)
    limit = (ahead + 1 + 2 * rivals.count(victim)) * round_trip
    for _ in range(limit):
        if go_on() == number:
            return
    pytest.fail(f"not once in {limit} starts")


@given(
    slots=st.integers(1, 6),
    share=SHARES,
    asks=st.lists(st.one_of(st.integers(0, 5), st.sampled_from(PARTIES)), min_size=1, max_size=80),
)
def test_while_tags_wait_searches_have_no_more_than_their_quota(
    slots: int, share: float, asks: list[Party | int]
) -> None:
    lab = Lab(slots=slots, share=share)
    quota = lab.turns.quota(BUILD)
    for ask in asks:
        if isinstance(ask, Party):
            lab.ask(ask)
        elif lab.waiting:
            waited = [one.party.purpose for one in lab.waiting]
            chosen = lab.start(ask)
            searches = [party.purpose for party in lab.running].count(Purpose.SEARCH)
            if chosen.party.purpose is Purpose.SEARCH and Purpose.TAG in waited:
                assert searches <= quota


@given(order=st.permutations(range(6)), data=st.data())
def test_the_order_of_the_question_does_not_matter(order: list[int], data: st.DataObject) -> None:
    waiting = [
        Waiting(id=at, party=data.draw(st.sampled_from(PARTIES)), due=float(at // 2))
        for at in range(6)
    ]
    running = data.draw(st.lists(st.sampled_from(PARTIES), max_size=4))
    turns = Turns(slots={BUILD: 4})
    chosen = choose(waiting, running, turns, BUILD)
    assert choose([waiting[at] for at in order], running[::-1], turns, BUILD) == chosen
