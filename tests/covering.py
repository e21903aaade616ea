"""Fewer cases than a product: each pair of values of any two axes occurs together at least once."""

from itertools import combinations, product


def pairwise(*axes):
    """Cases (one value of each axis) that hold every pair of values of two axes; the same ones each time.

    Greedy: of all cases the one with most pairs that are still missing, the first of equals.

    >>> len(pairwise("ab", "cd", "ef")), len(pairwise("abc", "defg"))
    (4, 12)
    """
    numbers = [range(len(axis)) for axis in axes]
    whole = [(case, pairs_of(case)) for case in product(*numbers)]
    missing, found = set().union(*(pairs for _, pairs in whole)), []
    while missing:
        case, pairs = max(whole, key=lambda each: len(each[1] & missing))
        missing -= pairs
        found.append(tuple(axis[i] for axis, i in zip(axes, case, strict=True)))
    return found


def pairs_of(case):
    return set(combinations(enumerate(case), 2))
