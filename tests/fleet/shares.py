"""What each node gets of each rack, as one dense table: slow, plain, and itself compared with exact fractions."""

import numpy as np

from fleet.trees import tree_alive


def tree_shares(tree, failed):
    """Return the share of each rack's load that reaches each node, efficiencies included, float64[N, R]. [-]"""
    alive = tree_alive(tree, failed)
    rack, node = tree.leaves
    rack, node = rack[alive[node]], node[alive[node]]
    shares = np.zeros((len(tree.slugs), tree.racks))
    shares[node, rack] = 1 / np.bincount(rack, minlength=tree.racks)[rack]
    live = alive[tree.link_source] & alive[tree.link_node]
    has_primary = np.bincount(tree.link_node[live & ~tree.link_standby], minlength=len(tree.slugs)) > 0
    live &= tree.link_standby != has_primary[tree.link_node]
    drawn_on = np.bincount(tree.link_node[live], minlength=len(tree.slugs))
    level = tree.level[tree.link_node]
    for link in np.argsort(-level, kind="stable"):  # from below: a node is complete before it draws
        if live[link]:
            at = tree.link_node[link]
            shares[tree.link_source[link]] += shares[at] / (tree.efficiency_ratio[at] * drawn_on[at])
    return shares
