"""Host types, the firmware of their chips, and the gates that software has passed on them."""

from decimal import Decimal

from accelerator import chip_get
from fleet.models import FirmwareBaseline, FirmwareSet, Gate, HostType
from fleet.seeding.world import Kind, World

FIRMWARES = 3


PLAN_ONLY = ("slug", "bought", "until")


def types_make(world: World) -> None:
    """Write host types and the firmware of their chips."""
    for row in world.plan["host_types"]:
        values = {name: value for name, value in row.items() if name not in PLAN_ONLY}
        price = values["price"] = Decimal(row["price"]) if "price" in row else None
        first, last = row["bought"]
        until = row.get("until")
        pk = world.rows.add(
            HostType,
            slug=f"{world.prefix}{row['slug']}",
            in_service_on=world.day(first),
            out_of_service_on=None if until is None else world.day(until),
            **values,
        )
        chip = chip_get(row["chip"])
        world.kinds[row["slug"]] = Kind(
            id=pk,
            slug=row["slug"],
            chip=chip,
            chips=row["chips"],
            height_u=row["height_u"],
            power_w=row["power_w"],
            apparent_va=row["power_w"] / row["power_factor_ratio"],
            ports=row["ports"],
            weight_kg=row["weight_kg"],
            bought=(first, last),
            until=until,
            price=price,
            currency=row.get("currency", "CNY"),
            firmware=firmware_make(world, chip.slug),
        )


def firmware_make(world: World, chip: str) -> tuple[int, ...]:
    """Write the releases of a chip, above those that are there, and from when on which is needed."""
    last = FirmwareSet.objects.filter(chip=chip).order_by("-rank").values_list("rank", flat=True).first() or 0
    found = []
    for number in range(1, FIRMWARES + 1):
        minor = world.between(0, 9)
        released_on = world.day(-22 + 7 * number)
        found.append(
            world.rows.add(
                FirmwareSet,
                slug=f"{world.prefix}fw-{chip}-{number}",
                chip=chip,
                rank=last + number,
                note=f"invented: driver {released_on:%y.%m}.{minor}, firmware {number}.{minor}, runtime {number + 4}.0",
                in_service_on=released_on,
            )
        )
    slug = f"{world.prefix}fw-{chip}-from"
    world.rows.add(FirmwareBaseline, slug=f"{slug}-1", firmware_id=found[0], starts_on=world.day(-12))
    note = "older releases lose their signature"
    world.rows.add(FirmwareBaseline, slug=f"{slug}-2", firmware_id=found[1], starts_on=world.day(4), note=note)
    return tuple(found)


def gates_make(world: World) -> None:
    """Write the gates of each model family on each homegrown chip, but for those that are there."""
    there = set(Gate.objects.values_list("family", "chip"))
    for family, most in world.plan["families"].items():
        for chip in world.plan["ready"]:
            if (family, chip) in there:
                continue
            passed = min(most, world.between(2, 9))
            for at, number in enumerate(Gate.Number.values):
                done = at < passed
                state = Gate.State.PASSED if done else world.drawn({"open": 5, "partly": 3, "failed": 1})
                decided_on = None if state == Gate.State.OPEN else world.day(-12 + at)
                world.rows.add(
                    Gate,
                    family=family,
                    chip=chip,
                    gate=number,
                    state=str(state),
                    expected_on=decided_on if done else world.day(1 + 1.5 * (at - passed)),
                    decided_on=decided_on,
                    evidence=f"invented: run {world.between(1000, 9999)}" if decided_on else "",
                    owner=f"port of {family}",
                    signed_by="release board" if done else "",
                )
