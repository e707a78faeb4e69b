"""Supply trees, fits and gaps worked out the slow way, for tests to compare with: recursion, dicts, exact fractions.

A tree is a dict:

- ``nodes``: slug -> {"usable": number or None if unknown, "efficiency": number, "house": number}; indexed in this order
- ``feeds``: slug -> {slug of a node that feeds it: True where it only stands by}
- ``leaves``: rack -> slugs it draws on; a rack that is missing here is not on the tree
- ``racks``: how many racks there are, numbered from 0
"""

import itertools
import math
import random
from fractions import Fraction
from functools import cache

EFFICIENCIES = [Fraction(text) for text in ("0.9", "0.93", "0.95", "0.96", "0.97", "1")]


# --- what lives, what is dark, what each node bears -------------------------------------------------------------------
def living_nodes(tree, failed=None):
    """Return the slugs that live when one node fails, or none."""

    def lives(slug):
        sources = tree["feeds"][slug]
        return slug != failed and (not sources or any(lives(source) for source in sources))

    return {slug for slug in tree["nodes"] if lives(slug)}


def dark_racks(tree, failed=None):
    """Return the racks on the tree of which no leaf node lives."""
    living = living_nodes(tree, failed)
    return {rack for rack, slugs in tree["leaves"].items() if slugs and not living.intersection(slugs)}


def drawn_on(tree, slug, living):
    """Return the nodes that a living node draws on: its living primary sources, or else its living standby ones."""
    sources = tree["feeds"][slug]
    primary = [source for source in sources if source in living and not sources[source]]
    standby = [source for source in sources if source in living and sources[source]]
    return primary or standby


def node_loads(tree, rack_load, failed=None, *, house=True, among=None):
    """Return the output of each node, by slug. `rack_load` is by rack; a rack that is missing there draws nothing."""
    living = living_nodes(tree, failed)
    draws = {slug: drawn_on(tree, slug, living) for slug in living}
    drops = {rack: [slug for slug in slugs if slug in living] for rack, slugs in tree["leaves"].items()}
    parts = {
        rack: Fraction(rack_load[rack]) / len(slugs) for rack, slugs in drops.items() if slugs and rack_load.get(rack)
    }

    @cache
    def load(slug):
        total = tree["nodes"][slug]["house"] if house else 0
        total += sum(part for rack, part in parts.items() if slug in drops[rack])
        for child, sources in draws.items():
            if slug in sources and load(child):
                total += load(child) / (tree["nodes"][child]["efficiency"] * len(sources))
        return total

    return {slug: load(slug) if slug in living else 0 for slug in among or tree["nodes"]}


def worst_loads(tree, rack_load):
    """Return (now, worst, worst failures) of each node, by slug; the failures are all that reach the worst load."""
    now = node_loads(tree, rack_load)
    under = {failed: node_loads(tree, rack_load, failed) for failed in tree["nodes"]}
    found = {}
    for slug in tree["nodes"]:
        worst = max([now[slug], *(loads[slug] for failed, loads in under.items() if failed != slug)])
        reached = [failed for failed, loads in under.items() if failed != slug and loads[slug] == worst]
        found[slug] = now[slug], worst, reached if worst > now[slug] else []
    return found


def node_shares(tree, failed=None):
    """Return by (slug, rack) how much of a rack's load a node bears."""
    loads = {rack: node_loads(tree, {rack: 1}, failed, house=False) for rack in range(tree["racks"])}
    return {(slug, rack): loads[rack][slug] for rack in loads for slug in tree["nodes"]}


def rack_limit(tree, rack):
    """Return the most that a rack may draw so that no failure overloads its leaf nodes; None if nothing limits it."""
    leaves, limits = tree["leaves"].get(rack, []), []
    for failed in [None, *tree["nodes"]] if leaves else []:
        shares = node_loads(tree, {rack: 1}, failed, house=False, among=leaves)
        bearing = [slug for slug in leaves if shares[slug]]
        usable = {slug: tree["nodes"][slug]["usable"] for slug in bearing}
        limits += [Fraction(usable[slug]) / shares[slug] for slug in bearing if usable[slug] is not None]
    return min(limits, default=None)


# --- trees by chance --------------------------------------------------------------------------------------------------
def tree_empty(racks):
    return {"nodes": {}, "feeds": {}, "leaves": {}, "racks": racks}


def node_add(tree, slug, *, on=(), standby=(), usable=None, efficiency=1, house=0):
    tree["nodes"][slug] = {"usable": usable, "efficiency": Fraction(efficiency), "house": house}
    tree["feeds"][slug] = dict.fromkeys(on, False) | dict.fromkeys(standby, True)
    return slug


def rack_hang(tree, rng, rack, slugs):
    """Let a rack draw on nodes, some through a feed of its own."""
    for slug in slugs:
        leaf = slug
        if rng.random() < 0.3:
            leaf = node_add(tree, f"{slug}-feed-{rack}", on=[slug])
        if leaf not in tree["leaves"].setdefault(rack, []):
            tree["leaves"][rack].append(leaf)


def grow_n(tree, rng, name, racks):
    """Everything once."""
    ups = node_add(tree, f"{name}-ups", on=[node_add(tree, f"{name}-utility")])
    panels = [node_add(tree, f"{name}-panel-{i}", on=[ups]) for i in range(rng.randint(1, 3))]
    for rack in racks:
        rack_hang(tree, rng, rack, [rng.choice(panels)])


def grow_n_plus_one(tree, rng, name, racks):
    """One unit more than needed on a common bus; a generator may stand by for the utility."""
    utility, generator = node_add(tree, f"{name}-utility"), node_add(tree, f"{name}-generator")
    units = [
        node_add(tree, f"{name}-unit-{i}", on=[utility], standby=[generator] if rng.random() < 0.5 else [])
        for i in range(rng.randint(2, 4))
    ]
    bus = node_add(tree, f"{name}-bus", on=units)
    panels = [node_add(tree, f"{name}-panel-{i}", on=[bus]) for i in range(rng.randint(1, 2))]
    for rack in racks:
        rack_hang(tree, rng, rack, rng.sample(panels, rng.randint(1, len(panels))))


def grow_2n(tree, rng, name, racks):
    """Two sides, each of which carries all; both may hang on one utility."""
    utilities = [node_add(tree, f"{name}-utility-{i}") for i in range(rng.randint(1, 2))]
    units = [node_add(tree, f"{name}-ups-{side}", on=[utilities["ab".index(side) % len(utilities)]]) for side in "ab"]
    rows = [[node_add(tree, f"{ups}-panel-{i}", on=[ups]) for ups in units] for i in range(rng.randint(1, 2))]
    for rack in racks:
        rack_hang(tree, rng, rack, rng.choice(rows))


def grow_3n_over_2(tree, rng, name, racks):
    """Three sides at two thirds each; a rack draws on two of them, now and then on all three or on one."""
    sides = [node_add(tree, f"{name}-ups-{i}", on=[node_add(tree, f"{name}-utility-{i}")]) for i in range(3)]
    for rack in racks:
        rack_hang(tree, rng, rack, rng.sample(sides, rng.choice([1, 2, 2, 2, 3])))


def grow_block(tree, rng, name, racks):
    """Blocks for themselves, one more block stands by for each of their panels."""
    utility = node_add(tree, f"{name}-utility")
    catcher = node_add(tree, f"{name}-catcher", on=[utility])
    panels = []
    for i in range(rng.randint(2, 3)):
        own = node_add(tree, f"{name}-utility-{i}") if rng.random() < 0.5 else utility
        block = node_add(tree, f"{name}-block-{i}", on=[own])
        panels.append(node_add(tree, f"{name}-panel-{i}", on=[block], standby=[catcher]))
    for rack in racks:
        rack_hang(tree, rng, rack, rng.sample(panels, rng.randint(1, 2)))


def grow_cross(tree, rng, name, racks):
    """Two sides whose panels each draw on both; each side's utility may stand by for the other side."""
    utilities = [node_add(tree, f"{name}-utility-{i}") for i in range(2)]
    units = [
        node_add(tree, f"{name}-ups-{i}", on=[utilities[i]], standby=[utilities[1 - i]] if rng.random() < 0.5 else [])
        for i in range(2)
    ]
    panels = [node_add(tree, f"{name}-panel-{i}", on=units) for i in range(rng.randint(1, 3))]
    for rack in racks:
        rack_hang(tree, rng, rack, rng.sample(panels, rng.randint(1, min(2, len(panels)))))


def grow_wild(tree, rng, name, racks):
    """Any node on any earlier ones, and any rack on any nodes: no building looks like this."""
    slugs = []
    for i in range(rng.randint(2, 9)):
        sources = rng.sample(slugs, min(len(slugs), rng.choice([0, 1, 1, 2, 2, 3])))
        standby = [source for source in sources if rng.random() < 0.35]
        primary = [source for source in sources if source not in standby]
        slugs.append(node_add(tree, f"{name}-{i}", on=primary, standby=standby))
    for rack in racks:
        rack_hang(tree, rng, rack, rng.sample(slugs, rng.randint(1, min(3, len(slugs)))))


SHAPES = [grow_n, grow_n_plus_one, grow_2n, grow_3n_over_2, grow_block, grow_cross, grow_wild]


def spoil(tree, rng):
    """Add what a tidy drawing leaves out."""
    slugs = list(tree["nodes"])
    if rng.random() < 0.2:  # a node by itself
        node_add(tree, "spare")
    if rng.random() < 0.3:  # a rack on an upper node as well
        rack_hang(tree, rng, rng.randrange(tree["racks"]), [rng.choice(slugs)])
    if rng.random() < 0.3 and tree["leaves"]:  # a leaf node that feeds another one, on which racks draw too
        leaf = rng.choice(rng.choice(list(tree["leaves"].values())))
        below = node_add(tree, "below", **{rng.choice(["on", "standby"]): [leaf]})
        rack_hang(tree, rng, rng.randrange(tree["racks"]), [below])
    if rng.random() < 0.2 and tree["leaves"]:  # a rack off the tree
        del tree["leaves"][rng.choice(list(tree["leaves"]))]
    lossy, housed = rng.random() < 0.7, rng.random() < 0.6
    for node in tree["nodes"].values():
        node["efficiency"] = rng.choice(EFFICIENCIES) if lossy else Fraction(1)
        node["house"] = rng.randint(1, 60) * 250 if housed and rng.random() < 0.4 else 0
        node["usable"] = None if rng.random() < 0.15 else rng.randint(20, 4000) * 100


def shuffled(tree, rng):
    """Return the same tree with its nodes in any order: an index says nothing about who feeds whom."""
    slugs = list(tree["nodes"])
    rng.shuffle(slugs)
    return tree | {key: {slug: tree[key][slug] for slug in slugs} for key in ("nodes", "feeds")}


def random_tree(seed, *, racks=None, parts=(1, 1, 1, 2, 3)):
    """Return a tree of some parts; the seeds go round the shapes."""
    rng = random.Random(seed)
    tree = tree_empty(racks or rng.randint(1, 8))
    for part in range(rng.choice(parts)):
        grow = SHAPES[seed % len(SHAPES)] if part == 0 else rng.choice(SHAPES)
        among = [rack for rack in range(tree["racks"]) if part == 0 or rng.random() < 0.4]
        grow(tree, rng, f"part-{part}", among)
    spoil(tree, rng)
    return shuffled(tree, rng)


def random_rack_load(seed, racks):
    """Return what each rack draws, by rack; some draw nothing."""
    rng = random.Random(f"load {seed}")
    return {rack: rng.choice([0, rng.randint(1, 60_000), rng.randint(1, 40) * 500]) for rack in range(racks)}


# --- hosts that fit ---------------------------------------------------------------------------------------------------
LOCAL = {"power_w": "free_w", "heat_w": "free_heat_w", "weight_kg": "free_kg", "ports": "free_ports"}


def random_fits_case(seed):
    """Return a question about two to five racks as a dict: need, a room per rack, a tree and loads per supply."""
    rng = random.Random(f"fits {seed}")
    racks = rng.randint(2, 5)
    power_w = rng.choice([1500, 5500, 7000, 10_200])
    need = {
        "height_u": rng.choice([2, 4, 8]),
        "power_w": power_w,
        "apparent_va": rng.choice([power_w, power_w * 100 // 95]),
        "heat_w": power_w * rng.choice([80, 100]) // 100,
        "ports": rng.choice([0, 1, 4, 8]),
        "weight_kg": rng.choice([0, 40, 130]),
    }
    rooms = []
    for _ in range(racks):
        most = rng.choice([0, 1, 2, 3, 4, 5, 6])  # by units; the others are about as tight, and often just enough
        room = {"open": rng.random() < 0.9, "scope": rng.random() < 0.9, "hosts_by_units": most}
        for one, free in LOCAL.items():
            hosts = most + rng.choice([-1, 0, 1, 2, 3])
            loose = rng.random() < 0.5
            room[free] = None if loose else hosts * need[one] + rng.choice([0, 0, max(0, need[one] - 1), -1])
        rooms.append(room)
    case = {"need": need, "rooms": rooms}
    for supply, one in (("power", "apparent_va"), ("cooling", "heat_w")):
        tree = random_tree(rng.randrange(10**6), racks=racks, parts=(1, 1, 1, 2))
        load = random_rack_load(f"{supply} {seed}", racks)
        tree_tighten(tree, load, need[one], rng)
        case[supply] = {"tree": tree, "load": load, "per_host": need[one]}
    return case


def tree_tighten(tree, load, per_host, rng):
    """Set what is usable so that some more hosts fit, often exactly; now and then a node is full or overloaded."""
    one_each = worst_loads(tree, dict.fromkeys(load, per_host))
    full = rng.choice(list(tree["nodes"])) if rng.random() < 0.25 else None
    for slug, (now, worst, _) in worst_loads(tree, load).items():
        some = (one_each[slug][1] - Fraction(tree["nodes"][slug]["house"])) / tree["racks"]
        tree["nodes"][slug]["usable"] = rng.choice(
            [None, worst + some * rng.randint(3, 16), worst + some * rng.randint(3, 16) - 1]
            + [Fraction(math.ceil(worst)) + hosts * per_host for hosts in (rng.randint(2, 8), rng.randint(4, 24))]
        )
        if slug == full:
            tree["nodes"][slug]["usable"] = rng.choice(
                [worst, now, Fraction(math.floor(now * 9 / 10)), (now + worst) / 2]
            )


def rack_most(case, rack):
    """Return how many hosts a rack by itself takes: units, watts, heat, weight and ports."""
    room = case["rooms"][rack]
    if not (room["open"] and room["scope"]):
        return 0
    limits = [room["hosts_by_units"]]
    for one, free in LOCAL.items():
        if case["need"][one] and room[free] is not None:
            limits.append(math.floor(Fraction(room[free]) / case["need"][one]))
    return max(0, min(limits))


def placing_holds(case, hosts):
    """Return whether a placing, hosts by rack, breaks no rule: each rack's own, and each node's under each failure."""
    if any(not 0 <= hosts[rack] <= rack_most(case, rack) for rack in range(len(case["rooms"]))):
        return False
    for supply in (case["power"], case["cooling"]):
        tree, load = supply["tree"], supply["load"]
        then = {rack: load[rack] + hosts[rack] * supply["per_host"] for rack in load}
        for failed in [None, *tree["nodes"]]:
            before, after = node_loads(tree, load, failed), node_loads(tree, then, failed)
            for slug, node in tree["nodes"].items():
                full = node["usable"] is not None and after[slug] > node["usable"]
                if full and after[slug] > before[slug]:  # what is overloaded already blocks only what adds to it
                    return False
    return True


def supply_rows(supply):
    """Return each (node, failure) as (what it still bears, what one more host in each rack adds), in whole numbers."""
    tree, rows = supply["tree"], set()
    for failed in [None, *tree["nodes"]]:
        before = node_loads(tree, supply["load"], failed)
        added = [node_loads(tree, {rack: supply["per_host"]}, failed, house=False) for rack in range(tree["racks"])]
        for slug, node in tree["nodes"].items():
            if node["usable"] is not None and any(loads[slug] for loads in added):
                row = [max(Fraction(0), node["usable"] - before[slug]), *(loads[slug] for loads in added)]
                common = math.lcm(*(number.denominator for number in row))
                rows.add(tuple(int(number * common) for number in row))
    return rows


def most_hosts(case):
    """Return the largest number of hosts of any placing that holds: all of them are tried, rack by rack."""
    most = [rack_most(case, rack) for rack in range(len(case["rooms"]))]
    rows = [*supply_rows(case["power"]), *supply_rows(case["cooling"])]

    def best(rack, left):
        if rack == len(most):
            return 0
        counts = []
        for hosts in range(most[rack] + 1):
            after = [bears - hosts * row[1 + rack] for bears, row in zip(left, rows, strict=True)]
            if any(bears < 0 for bears in after):
                break
            counts.append(hosts + best(rack + 1, after))
        return max(counts)

    return best(0, [row[0] for row in rows])


# --- gaps in racks ----------------------------------------------------------------------------------------------------
def gaps_fit_plain(*, rack_height_u, hosts, height_u):
    """Return how many hosts of a height fit in each rack; `hosts` are (rack, lowest unit or 0 if unknown, height)."""
    counts = []
    for rack, units in enumerate(rack_height_u):
        taken = [False] * units
        own = [(position, height) for where, position, height in hosts if where == rack]
        for position, height in [host for host in own if host[0]] + [host for host in own if not host[0]]:
            free = [low for low in range(units - height + 1) if not any(taken[low : low + height])]
            low = position - 1 if position else free[0] if free else units
            for unit in range(low, min(low + height, units)):
                taken[unit] = True
        gaps = [len(list(run)) for is_taken, run in itertools.groupby(taken) if not is_taken]
        counts.append(sum(gap // height_u for gap in gaps))
    return counts


def random_racks(seed):
    """Return (heights of racks, hosts) ; some hosts have no position, some overlap."""
    rng = random.Random(f"gaps {seed}")
    unknown = rng.choice([0.0, 0.2, 1.0])
    heights, hosts = [rng.choice([4, 10, 42, 48]) for _ in range(rng.randint(1, 6))], []
    for rack, units in enumerate(heights):
        at = 1
        while (at := at + rng.choice([0, 0, 0, 1, 2, 5, 12])) <= units:
            height = min(rng.choice([1, 2, 2, 4, 6, 8]), units + 1 - at)
            hosts.append((rack, at, height))
            at += height
            if not unknown and height > 1 and rng.random() < 0.1:
                at -= 1  # the next one is drawn into this one
    rng.shuffle(hosts)
    return heights, [(rack, 0 if rng.random() < unknown else at, height) for rack, at, height in hosts]
