"""`benchmark run --prove K`: from which of its states a model could still have succeeded, and at which step it lost that.

A failed try is taken up again in the state before one of its turns, K times with sampling, by the model itself. Where one of
these succeeds, success was still there, and whatever the model had done until then was a way like another. Halving the turns in
between finds the first one after which all K fail, its pit (Self-Explore, arXiv 2404.10346).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.agent.episodes import Beginning, InvalidTry, Policy, Try, run_tasks, try_to_record_id
from benchmark.runs.actors import Actor, Options
from benchmark.runs.done import records_in
from benchmark.runs.options import Chosen
from core.files import appending, whole_file
from core.screen import with_progress
from data.records import Metadata, Outcome, Trajectory
from data.trajectories import group_turns

ROLLOUTS = "rollouts.jsonl"
"""The tries from states, beside those from the start: what the pits rest on, and the ways out of them."""
MOST_STATES = 100
"""States that are proved in a run."""
TEMPERATURE = 0.8
"""Of tries from states, where those from the start are greedy."""
_TOGETHER = 16
"""Tries whose pits are looked for at the same time."""

RunTries = Callable[[Sequence[Try]], Iterable[Trajectory]]


@dataclass
class Search:
    """What is known of one failed try: its states before turn 0, 1, ... and how many of K tries from there succeed."""

    attempt: Try
    record: Trajectory
    successes: dict[int, int] = field(default_factory=dict)
    """By the step at which a state stands."""

    @property
    def steps(self) -> list[int]:
        """The steps at which its turns begin."""
        starts = [group[0][0] for group in group_turns(self.record.action_sequence)]
        return starts if self.record.metadata.answer is None else [*starts, len(self.record.action_sequence)]

    def next(self) -> int | None:
        """The step whose state has to be proved next; None where the pit is known, or that there is none."""
        steps = self.steps
        if not steps or self.successes.get(steps[0]) == 0:
            return None
        if steps[0] not in self.successes:
            return steps[0]
        low, high = self._between(steps)
        return steps[(low + high) // 2] if high - low > 1 else None

    @property
    def pit(self) -> int | None:
        """The step of the first turn from which success is lost."""
        steps = self.steps
        if not steps or not self.successes.get(steps[0]):
            return None
        low, high = self._between(steps)
        return steps[low] if high - low == 1 else None

    def _between(self, steps: Sequence[int]) -> tuple[int, int]:
        """The last turn before which success is there, and the first before which it is not; after the last turn it is not."""
        low = max(place for place, step in enumerate(steps) if self.successes.get(step))
        lost = [place for place, step in enumerate(steps) if self.successes.get(step) == 0 and place > low]
        return low, min(lost, default=len(steps))

    def proof(self, samples: int) -> dict[str, object]:
        """As `metadata.proof` of the record tells it."""
        states = [{"step": step, "successes": count} for step, count in sorted(self.successes.items())]
        return {"samples": samples, "states": states, "pit": self.pit}


@dataclass(frozen=True)
class Proved:
    """What a run has proved."""

    searches: dict[str, Search]
    """Of tries of which at least one state is proved, by the ids of their records."""
    rollouts: list[Trajectory]
    """The tries from states that this rests on."""


def prove(
    failed: Sequence[tuple[Try, Trajectory]],
    run: RunTries,
    *,
    samples: int,
    label: str,
    sampling_seed: int,
    kept: Path,
    earlier: Sequence[Path] = (),
    most_states: int = MOST_STATES,
) -> Proved:
    """Look for the pit of each failed try, the first ones first, until `most_states` states are proved.

    Args:
        run: carries out tries with sampling.
        kept: where the tries from states are kept, each as soon as it ends.
        earlier: files of which some may be known, too.
    """
    known = {record.id: record for file in (*earlier, kept) for record in records_in(file)}
    with whole_file(kept) as whole:  # a kill may have left a part of a line
        whole.writelines(record.to_json().encode() + b"\n" for record in known.values())
    searches: dict[str, Search] = {}
    used: dict[str, Trajectory] = {}
    states = 0
    waiting = [Search(attempt, record) for attempt, record in failed]
    while waiting and states < most_states:
        together, waiting = waiting[:_TOGETHER], waiting[_TOGETHER:]
        while asked := [(search, step) for search in together if (step := search.next()) is not None]:
            asked = asked[: most_states - states]
            if not asked:
                break
            states += len(asked)
            tries = [
                [
                    (try_to_record_id(attempt, label=label), attempt)
                    for attempt in _tries_from(*each, samples, sampling_seed)
                ]
                for each in asked
            ]
            left = [attempt for of_state in tries for name, attempt in of_state if name not in known]
            with appending(kept) as file:
                for record in run(left) if left else ():
                    file.write(record.to_json().encode() + b"\n")
                    file.flush()
                    known[record.id] = record
            for (search, step), of_state in zip(asked, tries, strict=True):
                made = {name: known[name] for name, _ in of_state if name in known}
                used |= made
                searches[search.record.id] = search
                search.successes[step] = sum(record.outcome is Outcome.SUCCESS for record in made.values())
    return Proved(searches, list(used.values()))


def _tries_from(search: Search, step: int, samples: int, sampling_seed: int) -> Iterator[Try]:
    beginning = Beginning(search.record.id, tuple(search.record.action_sequence[:step]))
    for sample in range(samples):
        seed = zlib.crc32(f"{sampling_seed}:{beginning.name}:{sample}".encode())
        yield Try(search.attempt.task, sample, seed, search.attempt.examples, beginning)


def with_proof(record: Trajectory, proof: Mapping[str, object]) -> Trajectory:
    """The record with what was proved of it."""
    metadata = Metadata.model_validate({**record.metadata.model_dump(), "proof": proof})
    return record.model_copy(update={"metadata": metadata})


def prove_records(
    actor: Actor,
    records: Sequence[Trajectory],
    wanted: Mapping[str, Try],
    options: Options,
    chosen: Chosen,
    *,
    kept: Path,
    earlier: Sequence[Path],
) -> tuple[list[Trajectory], list[Trajectory]]:
    """The records with what is proved of those that failed, and the tries from states."""
    sampled = replace(options, temperature=options.temperature or TEMPERATURE, advise=False)
    failed = [(wanted[record.id], record) for record in records if record.outcome is not Outcome.SUCCESS]
    spoilt: list[InvalidTry] = []
    with ExitStack() as stack:
        policies: list[Policy] = []

        def run(tries: Sequence[Try]) -> Iterator[Trajectory]:
            if not policies:
                policies.append(stack.enter_context(actor.acting(sampled)))
            made = run_tasks(
                policies[0], tries, label=actor.label, max_steps=sampled.max_steps,
                max_same_errors=sampled.max_same_errors, live=max(sampled.batch_size, 16), invalid=sampled.invalid,
                repeat_guard=sampled.repeat_guard, kinds=chosen.kinds, invalid_tries=spoilt,
            )  # fmt: skip
            yield from with_progress(made, f"proving {actor.label}", total=len(tries))

        proved = prove(
            failed, run, samples=options.prove, label=actor.label, sampling_seed=options.sampling_seed,
            kept=kept, earlier=earlier, most_states=options.prove_states,
        )  # fmt: skip
    found = proved.searches
    pits = sum(search.pit is not None for search in found.values())
    states = sum(len(search.successes) for search in found.values())
    print(
        f"{actor.label}: {states} states of {len(found)} failed tries proved, {len(failed) - len(found)} not looked at; "
        f"{pits} have a step at which success was lost"
    )
    told = {name: search.proof(options.prove) for name, search in found.items()}
    return [with_proof(each, told[each.id]) if each.id in told else each for each in records], proved.rollouts
