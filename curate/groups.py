"""From matches to groups: connected sets of the same picture, and who stands for each.

Pure. A group is named by its smallest digest, so the answer does not depend on the order of
anything.
"""

from collections.abc import Iterable, Sequence

from schemas.records import Image


def connect(digests: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The group of each digest: the smallest digest it is connected with through `pairs`.

    A digest that no pair names is a group of its own. Digests named by pairs alone are included.
    """
    parent: dict[str, str] = {digest: digest for digest in digests}
    for a, b in pairs:
        low, high = sorted((_root(parent, a), _root(parent, b)))
        parent[high] = low
    return {digest: _root(parent, digest) for digest in parent}


def _root(parent: dict[str, str], digest: str) -> str:
    """The smallest member; paths are halved on the way, so that later walks are short."""
    parent.setdefault(digest, digest)
    while parent[digest] != digest:
        parent[digest] = parent[parent[digest]]
        digest = parent[digest]
    return digest


def choose_canonical(members: Sequence[Image]) -> tuple[str, str]:
    """The member that stands for a group, and why.

    The most pixels win, then the most bytes, then the smallest digest; members that do not decode
    come last. Nothing but the rows themselves is looked at.

    Raises:
        ValueError: if there are no members.
    """
    if not members:
        raise ValueError("a group has at least one member")
    best, *rest = sorted(members, key=_rank)
    if not rest:
        return best.digest, "only member"
    return best.digest, _why(best, rest[0])


def _rank(image: Image) -> tuple[bool, int, int, str]:
    return image.error is not None, -_area(image), -image.bytes, image.digest


def _area(image: Image) -> int:
    return (image.width or 0) * (image.height or 0)


def _why(best: Image, second: Image) -> str:
    if (best.error is None) != (second.error is None):
        return "the only member that decodes"
    if _area(best) != _area(second):
        return f"most pixels: {best.width} x {best.height}"
    if best.bytes != second.bytes:
        return f"same pixel count, most bytes: {best.bytes}"
    return "same pixel count and bytes, smallest digest"
