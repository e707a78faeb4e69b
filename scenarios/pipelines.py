"""How an answer is computed in steps: stages in order, each split into steps that know nothing of each other.

Values in, values out: no database, no framework. The split follows from the question alone, never from who computes, so
that the answer is the same to the last byte on one worker or on many, in any order.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]
"""What a run keeps of its scenario, as JSON values."""

Payload = dict[str, Any]
"""What one step is about, as JSON values."""

Progress = Callable[[float, str], None]
"""Is called with the share done [0, 1] and what is being done; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What a step may ask and tell while it works.

    Attributes
    ----------
    report : callable
        Shows the share done [0, 1] and what is being done; raises what ends the step if nobody wants it any more.
    should_stop : callable
        Whether nobody wants it any more: for those who must not raise, such as a callback out of a solver.
    checkpoint_load : callable
        What an earlier attempt at this step left behind, or None.
    checkpoint_save : callable
        Leaves something for the next attempt. Returns at once; the latest is kept about once a minute.
    """

    report: Callable[[float, str], None]
    should_stop: Callable[[], bool]
    checkpoint_load: Callable[[], bytes | None]
    checkpoint_save: Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Worked:
    """What a step leaves behind. It is not reusable if the clock, and not the question, said when it was enough."""

    data: bytes
    is_reusable: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of a step that is done; read when it is needed. Equal digests are equal results."""

    digest: str
    read: Callable[[], bytes] = field(compare=False)


Results = Mapping[str, Sequence[Kept]]
"""The results of the stages that are done, in the order of their steps."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline.

    Attributes
    ----------
    name : str
    share_ratio : float
        Of a run's work, as its progress shows it. [-]
    split : callable
        The payloads of its steps, from the run's values and the results so far. The same for the same.
    work : callable
        One step: values, payload, results so far and context. Nothing else may matter after the first stage.
    """

    name: str
    share_ratio: float
    split: Callable[[Values, Results], list[Payload]]
    work: Callable[[Values, Payload, Results, StepContext], Worked]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of a kind of scenario. The first is one step, which reads; the last is one, which answers.

    Attributes
    ----------
    question : callable
        The digest of all that the answer follows from, once the first stage is done.
    """

    stages: tuple[Stage, ...]
    question: Callable[[Results], str]


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def one_step(_values: Values, _results: Results) -> list[Payload]:
    """Split into a single step."""
    return [{}]


def json_pack(value: Any) -> bytes:
    """Return JSON values as bytes, the same for the same."""
    return gzip.compress(json.dumps(value, allow_nan=False, separators=(",", ":")).encode(), compresslevel=1, mtime=0)


def json_unpack(data: bytes) -> Any:
    """Return the JSON values that were packed."""
    return json.loads(gzip.decompress(data))


def pipeline_walk(pipeline: Pipeline, values: Values, on_progress: Progress) -> Any:
    """Compute all steps in this process, one after the other; return the answer as JSON values."""
    results: dict[str, list[Kept]] = {}
    before_ratio = 0.0
    for stage in pipeline.stages:
        found: list[Kept] = []
        payloads = stage.split(values, results)
        for number, payload in enumerate(payloads):
            context = _inline(on_progress, before_ratio, stage.share_ratio / len(payloads), number)
            data = stage.work(values, payload, results, context).data
            found.append(Kept(digest_of(data), lambda data=data: data))  # type: ignore[misc]
        results[stage.name] = found
        before_ratio += stage.share_ratio
    return json_unpack(results[pipeline.stages[-1].name][0].read())


def _inline(on_progress: Progress, before: float, share: float, number: int) -> StepContext:
    return StepContext(
        report=lambda ratio, text: on_progress(min(1.0, before + share * (number + ratio)), text),
        should_stop=lambda: False,
        checkpoint_load=lambda: None,
        checkpoint_save=lambda _data: None,
    )
