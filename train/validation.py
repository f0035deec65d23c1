"""Which images choose the checkpoint: those of val, or a part of train that stands in for a missing one.

Nothing that is learnt from may choose the checkpoint, set a threshold or give the number that is reported:
copies of a picture, and pictures of one author or post, stay on one side, and what has the very bytes of a
validation image is left out of train.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

from schemas.errors import InputError
from schemas.labels import Label, Split
from train.data import Files, Item, Skipped, Source, described, digest_of, find_images
from train.scores import find_groups, tie

logger = logging.getLogger(__name__)

VAL_SHARE = 0.1
"""Part of train that stands in for a missing val."""


@dataclass(frozen=True, slots=True)
class TrainVal:
    """The images to learn from and those that choose the checkpoint; where those came from."""

    train: tuple[Item, ...]
    val: tuple[Item, ...]
    val_source: str


def find_sources(sources: Sequence[Source]) -> TrainVal:
    """The train images of all sources, and the val images of the first, whose kind is to be judged.

    Manifests of releases give platform and posterior.

    Raises:
        InputError: if a source cannot be used.
    """
    first = sources[0].root
    chosen = choose_train_val(first, described(first, find_images(first)))
    train = list(chosen.train)
    for number, source in enumerate(sources[1:], start=1):
        items = described(source.root, find_images(source.root))
        more = [replace(i, source=number) for i in items if i.split is Split.TRAIN]
        if not more:
            raise InputError(
                f"{source.root} has no train folder with images; expected train/0_real or "
                "train/1_fake; point at the folder that holds train"
            )
        train += more
    return replace(chosen, train=tuple(train))


def choose_train_val(root: Path, items: Sequence[Item]) -> TrainVal:
    """The train and val images of a set; a missing val is carved from train by hash of file name.

    Raises:
        InputError: if train or val lacks a class, or no part of train can stand in for val.
    """
    train = [item for item in items if item.split is Split.TRAIN]
    val = [item for item in items if item.split is Split.VAL]
    if not train:
        raise InputError(
            f"{root} has no train folder with images; expected train/0_real and train/1_fake; "
            "point at the folder that holds train"
        )
    require_both_classes(root, train, "train")
    if val:
        require_both_classes(root, val, "val")
        return TrainVal(tuple(train), tuple(val), "val")
    units = _units(root, train)
    carved = _carve(root, units)
    rest = tuple(item for item in train if item not in carved)
    logger.info("%s has no val: %d of %d train images stand in", root, len(carved), len(train))
    whole = ", groups kept whole" if len(units) < len(train) else ""
    source = f"{VAL_SHARE:.0%} of train, by hash of file name{whole}"
    return TrainVal(rest, tuple(i for i in train if i in carved), source)


def require_both_classes(root: Path, items: Iterable[Item], split: str) -> None:
    """Check that `items` hold real and fake images.

    Raises:
        InputError: naming the class that is missing.
    """
    found = _count(items)
    for label in Label:
        if not found[label]:
            raise InputError(
                f"{root} has no usable image in {split}/{label.folder}; expected some of both "
                f"classes; add images there"
            )


def unseen(train: Files, val: Files) -> tuple[Files, tuple[Skipped, ...]]:
    """`train` without the very files of `val`, and those with the reason."""
    judges = {digest: val.named(k) for k, digest in enumerate(val.digests) if digest is not None}
    seen = {k: judges[d] for k, d in enumerate(train.digests) if d in judges}
    if not seen:
        return train, ()
    logger.warning("left out %d train images that are validation images too", len(seen))
    left_out = tuple(
        Skipped(train.named(k), f"the same bytes as {path}, which is validated on")
        for k, path in seen.items()
    )
    return train.take([k for k in range(len(train.items)) if k not in seen]), left_out


Unit = tuple[Item, ...]
"""Images that are learnt from or validated on together."""


def _units(root: Path, train: Sequence[Item]) -> list[Unit]:
    """`train` by what must not be on both sides: groups of the manifest, and files of the same bytes."""
    groups, _ = find_groups(root, [item.path for item in train])
    copies = _copies([root / item.path for item in train])
    rows = [{"group": g, "bytes": c} for g, c in zip(groups, copies, strict=True)]
    units: dict[str | Item, list[Item]] = {}
    for item, name in zip(train, tie(rows, ("group", "bytes")), strict=True):
        units.setdefault(item if name is None else name, []).append(item)
    return [tuple(unit) for unit in units.values()]


def _copies(paths: Sequence[Path]) -> list[str | None]:
    """The digest of each file that another one is the same as; only files of equal length are read."""
    lengths = [_length(path) for path in paths]
    alike = Counter(lengths)
    digests = [
        digest_of(path) if length is not None and alike[length] > 1 else None
        for path, length in zip(paths, lengths, strict=True)
    ]
    held = Counter(digests)
    return [digest if held[digest] > 1 else None for digest in digests]


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _carve(root: Path, units: Sequence[Unit]) -> set[Item]:
    """A tenth of each class, lowest hashes first, so that new images move few of the old.

    What must stay together and would make it more than a tenth stays in train, unless nothing else is left.
    """
    counts = [_count(unit) for unit in units]
    have = _count(item for unit in units for item in unit)
    want = {label: max(1, round(VAL_SHARE * have[label])) for label in Label}
    taken: set[int] = set()
    held: Counter[Label] = Counter()
    for label in Label:
        _require_two(root, have, label)
        for k in _ordered(units, label):
            if k not in taken and all(held[y] + counts[k][y] <= want[y] for y in Label):
                taken.add(k)
                held.update(counts[k])
    for label in Label:
        if not held[label]:
            k = _smallest(root, units, have - held, label)
            taken.add(k)
            held.update(counts[k])
    return {item for k in taken for item in units[k]}


def _require_two(root: Path, have: Counter[Label], label: Label) -> None:
    if have[label] < 2:
        raise InputError(
            f"{root} has one image in train/{label.folder} and no val; expected at least two "
            "to keep one for validation; add images or a val folder"
        )


def _ordered(units: Sequence[Unit], label: Label) -> list[int]:
    """The units with images of a class, by the lowest hash of those."""
    hashes = {
        k: min(_name_hash(item) for item in unit if item.label is label)
        for k, unit in enumerate(units)
        if any(item.label is label for item in unit)
    }
    return sorted(hashes, key=hashes.__getitem__)


def _smallest(root: Path, units: Sequence[Unit], left: Counter[Label], label: Label) -> int:
    """The smallest unit with images of a class that leaves some of both classes in train."""
    spare = [k for k in _ordered(units, label) if all(left[y] > _count(units[k])[y] for y in Label)]
    if not spare:
        raise InputError(
            f"{root} has no val, and the images of train/{label.folder} are tied to each other (copies, or "
            "one author or post); expected some that can be set apart for validation; add a val folder"
        )
    return min(spare, key=lambda k: len(units[k]))


def _name_hash(item: Item) -> tuple[str, str]:
    name = PurePosixPath(item.path).name
    return sha256(name.encode(errors="surrogateescape")).hexdigest(), item.path


def _count(items: Iterable[Item]) -> Counter[Label]:
    return Counter(item.label for item in items)
