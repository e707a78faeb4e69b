"""A plan's decisions kept until a period: who learns of something then could not have acted before."""

from dataclasses import dataclass, replace

from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.program import Frozen


@dataclass(frozen=True, slots=True)
class Held:
    """A plan whose hosts and openings stand before a period; loads are free, as traffic goes where there is room."""

    answer: MigrationAnswer
    until: int

    @property
    def opened(self) -> dict[tuple[str, str, str], int]:
        """The ways that it opens before the period, and when."""
        return {(o.service, o.kind, o.phase): o.period for o in self.answer.opened if o.period < self.until}


def frozen_held(program: MigrationProgram, held: Held) -> Frozen:
    """Return a program in which hosts and openings before the period are those of the plan.

    A decision that the program does not have, as to rack what no longer comes, is left out.
    """
    columns, frozen = program.columns, program.frozen
    lower, upper = frozen.lower.copy(), frozen.upper.copy()
    hosts = {(row.place, row.kind, row.period): (row.kept, row.new) for row in held.answer.hosts}
    for part, decided in enumerate((columns.kept, columns.new)):
        for pair, at in decided.items():
            values = [float(hosts.get((*pair, period), (0, 0))[part]) for period in range(held.until)]
            lower[at[: held.until]] = upper[at[: held.until]] = values
    for way, at in columns.opened.items():
        opens = 0 if program.ways[way].rate.in_use else held.opened.get(program.ways[way].key, held.until)
        lower[at[: held.until]] = upper[at[: held.until]] = [float(period >= opens) for period in range(held.until)]
    return replace(frozen, lower=lower, upper=upper)
