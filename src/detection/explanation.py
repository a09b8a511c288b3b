"""Exact Shapley values of a forest's score: which inputs made it what it is, and by how much.

A forest's score is 2**(-length / c), so log2(score) = -length / c is a sum over trees, and the
path-dependent TreeSHAP game (Lundberg et al., Nature Machine Intelligence 2020, algorithm 1;
`shap.TreeExplainer(forest)` with its default background) explains it exactly:

    log2(score) = base + sum of weights,        score = 2**base * product of 2**weight

so a weight is a *factor* on the score: 2**weight. Positive pushes towards ANOMALY.

`shapley_kernel` says how they are computed; here the forest is laid out for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.detection import shapley_kernel as kernel
from src.detection.errors import ModelIncompatible
from src.detection.first_effects import FirstEffects
from src.detection.forest import LEAF, Forest
from src.detection.forest_paths import NO_PARENT, Paths
from src.detection.lanes import LANES
from src.detection.quadrature import RadauRule

_PLACES_IN_GROUP = 300  # of a few trees: with more, a processor's first cache would not hold them
_MOST_PLACES = 2**16


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains rows of one forest. Holds what does not depend on the row.

    The trees stand in groups of a few. A group's nodes have places: first its upper splits, which
    have at least one split below them, then its last splits, which have two leaves, then all other
    leaves. Upper splits stand in stretches, alternately of splits on features that are new on their
    path and of splits that repeat a feature, parents before their children.

    Attributes:
        n_features: inputs of the forest.
        denominator: of the forest's score.
        base: log2 of the score of a row about which nothing is known.
        starts: shape (groups + 1, columns): where each group begins in the arrays below, see
            `shapley_kernel`.
        most_places: of a group.
        stretches: their lengths, a row a group; the last two are those of its last splits.
        roots: places of the trees' roots.
        feature, threshold, left_share: one entry a split: what it asks, and the share of its
            training rows that went left.
        children: shape (upper splits, 2), left and right: their places.
        followed: shape (splits that repeat, 2): rows whose value lies above the first and not above
            the second have followed all splits on the feature so far.
        share: one entry a split that repeats: the share of training rows that have.
        last_values: shape (last splits, 2): path length of the right leaf, and by how much that of
            the left leaf is greater.
        leaf_values: path lengths of the other leaves.
        longest_values: one entry for each last split with a path of one feature more than the
            quadrature is exact for: what it misses, but for the product over the path.
        longest_places: places of the splits on these paths, one path after another.
        rules: points t of the quadrature, 1 - t and weights: three rows for each pass of each rule.
        first: what each feature adds when it comes first, with the weight that the rules give it.
    """

    n_features: int
    denominator: float
    base: float
    starts: NDArray[np.int64]
    most_places: int
    stretches: NDArray[np.int32]
    roots: NDArray[np.uint16]
    feature: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    left_share: NDArray[np.float64]
    children: NDArray[np.uint16]
    followed: NDArray[np.float32]
    share: NDArray[np.float64]
    last_values: NDArray[np.float64]
    leaf_values: NDArray[np.float64]
    longest_values: NDArray[np.float64]
    longest_places: NDArray[np.uint16]
    rules: NDArray[np.float64]
    first: FirstEffects

    @classmethod
    def for_forest(cls, forest: Forest) -> "Explainer":
        """Prepare a forest.

        Raises:
            ModelIncompatible: a tree has more nodes than there are places.
        """
        paths = Paths.of(forest)
        passes = _passes(forest, paths)
        rules = [RadauRule.with_points(LANES * n) for n in range(1, passes.max() + 1)]
        rule_of_tree = passes - 1
        order = _Order.of(forest, paths, passes)
        splits, upper, last = order.splits, order.upper, order.last
        repeating = splits[paths.repeats[splits]]
        left_values, right_values = forest.depth_value[[forest.left[last], forest.right[last]]]
        exact_up_to = 2 * LANES * passes + 1
        longest = last[paths.features[forest.left[last]] > exact_up_to[paths.tree[last]]]
        remainders = np.array([rule.remainder for rule in rules])[rule_of_tree]
        longest_values, ways = _longest_paths(longest, forest, paths, remainders)
        longest_places = order.place[np.concatenate([*ways, []]).astype(np.int64)]
        children = order.place[np.stack([forest.left[upper], forest.right[upper]], axis=1)]
        first_weights = np.array([rule.weight_at_zero for rule in rules])[rule_of_tree]

        starts = np.zeros((order.n_groups + 1, kernel.COLUMNS), np.int64)
        for column, nodes in (
            (kernel.SPLITS, splits), (kernel.UPPER, upper), (kernel.REPEATING, repeating),
            (kernel.LAST, last), (kernel.LEAVES, order.leaves), (kernel.LONGEST, longest),
        ):  # fmt: skip
            starts[:, column] = order.group_starts(paths.tree[nodes])
        starts[:, kernel.ROOTS] = order.group_starts(np.arange(forest.n_trees))
        starts[:, kernel.PATHS] = np.cumsum([0, *map(len, ways)])[starts[:, kernel.LONGEST]]
        starts[:-1, kernel.PASSES] = n = passes[starts[:-1, kernel.ROOTS]]
        starts[:-1, kernel.RULE] = 3 * (n * (n - 1) // 2)

        expected = float(np.sum((forest.depth_value * paths.reach)[forest.feature == LEAF]))
        return cls(
            n_features=forest.n_features,
            denominator=forest.denominator,
            base=-expected / forest.denominator if forest.denominator else -1.0,
            starts=starts,
            most_places=int(order.place.max()) + 1,
            stretches=order.stretches(paths),
            roots=order.place[forest.roots[:-1]].astype(np.uint16),
            feature=forest.feature[splits].astype(np.uint16),
            threshold=forest.threshold[splits],
            left_share=forest.cover[forest.left[splits]] / forest.cover[splits],
            children=children.astype(np.uint16),
            followed=np.stack([paths.above[repeating], paths.most[repeating]], axis=1),
            share=paths.share[repeating],
            last_values=np.stack([right_values, left_values - right_values], axis=1),
            leaf_values=forest.depth_value[order.leaves],
            longest_values=longest_values,
            longest_places=longest_places.astype(np.uint16),
            rules=np.concatenate([_rows_for_passes(rule) for rule in rules]),
            first=FirstEffects.of(forest, paths, first_weights),
        )

    def weights(self, row: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed weight of each input, shape (n_features,), in log2 of the score."""
        return self.ranked_weights(row)[0]

    def ranked_weights(
        self, row: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The weights, and the inputs most weighty first, ties in the order of inputs."""
        if not self.denominator:
            return np.zeros(self.n_features), np.arange(self.n_features)
        weights, first = np.empty(self.n_features), self.first
        order = np.empty(self.n_features, np.int64)
        kernel.shapley(
            row, self.starts, self.most_places, self.stretches, self.roots, self.feature,
            self.threshold, self.left_share, self.children, self.followed, self.share,
            self.last_values, self.leaf_values, self.longest_values, self.longest_places,
            self.rules, first.starts, first.thresholds, first.effects, -self.denominator, weights,
            order,
        )  # fmt: skip
        return weights, order


@dataclass(frozen=True, slots=True)
class _Order:
    """Which nodes have which places in which groups.

    Attributes:
        group: of each tree, ascending.
        place: of each node of the forest; 0 for those that have none.
        splits, upper, last, leaves: nodes that have places, in the order of groups and places.
    """

    group: NDArray[np.int64]
    place: NDArray[np.int64]
    splits: NDArray[np.int64]
    upper: NDArray[np.int64]
    last: NDArray[np.int64]
    leaves: NDArray[np.int64]

    @classmethod
    def of(cls, forest: Forest, paths: Paths, passes: NDArray[np.int64]) -> "_Order":
        is_leaf = forest.feature == LEAF
        is_last = ~is_leaf
        is_last[is_last] = is_leaf[forest.left[is_last]] & is_leaf[forest.right[is_last]]
        has_place = (paths.parent == NO_PARENT) | ~is_last[paths.parent]
        places = np.bincount(paths.tree[has_place])
        if places.max() > _MOST_PLACES:
            raise ModelIncompatible(
                f"a tree has {places.max()} nodes, explanations have places for {_MOST_PLACES}: "
                f"train with max_samples <= {_MOST_PLACES // 2}"
            )
        group_of_tree = _groups(places, passes)
        group = group_of_tree[paths.tree]
        stretch = np.where(is_last | is_leaf, paths.repeats, paths.changes)
        nodes = np.lexsort((paths.depth, stretch, is_last, is_leaf, group))
        nodes = nodes[has_place[nodes]]
        place = np.zeros(len(is_leaf), dtype=np.int64)
        place[nodes] = np.arange(len(nodes)) - np.searchsorted(group[nodes], group[nodes])
        splits = nodes[~is_leaf[nodes]]
        return cls(
            group=group_of_tree,
            place=place,
            splits=splits,
            upper=splits[~is_last[splits]],
            last=splits[is_last[splits]],
            leaves=nodes[is_leaf[nodes]],
        )

    @property
    def n_groups(self) -> int:
        return int(self.group[-1]) + 1

    def group_starts(self, trees: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each group begins among things of these trees, and where the last one ends."""
        return np.searchsorted(self.group[trees], np.arange(self.n_groups + 1))

    def stretches(self, paths: Paths) -> NDArray[np.int32]:
        """See `Explainer`."""
        changes = paths.changes[self.upper]
        lengths = np.zeros((self.n_groups, changes.max(initial=0) // 2 * 2 + 4), np.int32)
        np.add.at(lengths, (self.group[paths.tree[self.upper]], changes), 1)
        np.add.at(lengths, (self.group[paths.tree[self.last]], paths.repeats[self.last] - 2), 1)
        return lengths


def _passes(forest: Forest, paths: Paths) -> NDArray[np.int64]:
    """Passes of `LANES` points that each tree takes: the fewest that are exact, at least one.

    A path of one feature more than the quadrature is exact for is allowed where none is repeated.
    """
    features, depth = paths.features, paths.depth
    points = np.where(features == depth, features - 2, features - 1)
    points[(features == depth) & ((features - 2) % (2 * LANES) != 0)] += 1
    passes = np.ones(forest.n_trees, np.int64)
    np.maximum.at(passes, paths.tree, -(-points // (2 * LANES)))
    return passes


def _groups(places: NDArray[np.int64], passes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each tree's group, ascending: neighbours that take equal passes, as many as have places."""
    groups = np.zeros(len(places), np.int64)
    filled = places[0]
    for tree in range(1, len(places)):
        filled += places[tree]
        full = filled > _PLACES_IN_GROUP or passes[tree] != passes[tree - 1]
        groups[tree] = groups[tree - 1] + full
        if full:
            filled = places[tree]
    return groups


def _longest_paths(
    longest: NDArray[np.int64], forest: Forest, paths: Paths, remainders: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[list[int]]]:
    """For each of the longest paths' last splits what the rule misses, and the splits on its path.

    What it misses is this value times the product of the splits' surpluses: the row's side less its
    share, of the left child. Those of the right child are their negatives, hence the signs.
    """
    values, ways = np.zeros(len(longest)), []
    for i, split in enumerate(longest.tolist()):
        left, right = forest.left[split], forest.right[split]
        excess = forest.depth_value[left] - forest.depth_value[right]
        missed = remainders[paths.tree[split]] * excess
        way = [split]
        while (above := int(paths.parent[way[-1]])) != NO_PARENT:
            missed *= 1 if way[-1] == forest.left[above] else -1
            way.append(above)
        values[i] = missed
        ways.append(way)
    return values, ways


def _rows_for_passes(rule: RadauRule) -> NDArray[np.float64]:
    """A rule as the kernel takes it: points, 1 - points and weights of one pass after another."""
    columns = np.stack([rule.points, 1 - rule.points, rule.weights])
    return np.concatenate([columns[:, i : i + LANES] for i in range(0, len(rule.points), LANES)])
