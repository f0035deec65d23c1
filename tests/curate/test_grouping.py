"""Groups in the catalog: grown in parts, reviewed, voted on, forgotten; and what splits make of them."""

import io
from dataclasses import astuple

import numpy as np
import pytest
from PIL import Image as Picture

from curate.stages.fetching import fetch_media
from curate.stages.grouping import (
    Member,
    dedupe_catalog,
    group_images,
    mark,
    member_of,
    regroup_catalog,
    review_pairs,
)
from curate.stages.probing import probe_store
from curate.stages.releasing import release_catalog
from curate.stages.splitting import split_catalog
from curate.workspace import create_workspace, open_workspace
from labeling.stage import decide_labels, images_to_label, label_status
from pipelines import grow
from pipelines.why import explain
from schemas.errors import InputError
from schemas.labels import Word
from schemas.policy import DedupePolicy
from schemas.records import Annotation, Evidence, Image, Match, Media, Post

POLICY = """
name = "set"
platforms = {{reddit = {{role = "train"}}, x = {{role = "held-out"}}}}
fetch = {{mirrors = {{"a.example" = "{host}"}}}}
"""


@pytest.fixture
def workspace(tmp_path):
    made = create_workspace(tmp_path / "set")
    host = made.root / "host"
    host.mkdir()
    (made.root / "wildrf.toml").write_text(POLICY.format(host=host))
    return open_workspace(made.root)


def scene(seed, side=64, *, quality=90, mix=None):
    """A smooth picture of its own as JPEG, or one part-way to another."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    if mix is not None:
        other, share = mix
        target = np.random.default_rng(other).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        small = (small * (1 - share) + target * share).astype(np.uint8)
    buffer = io.BytesIO()
    Picture.fromarray(small).resize((side, side)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def add(workspace, contents, *, start=0, platform="reddit"):
    """Posts with one picture each; the digests in order."""
    keys = [str(start + n) for n in range(len(contents))]
    for key, content in zip(keys, contents, strict=True):
        (workspace.root / "host" / f"{platform}{key}.jpg").write_bytes(content)
    workspace.catalog.add("post", [Post(platform, k, "s", f"by-{k}", None) for k in keys])
    url = f"https://a.example/{platform}"
    workspace.catalog.add("media", [Media(platform, k, 0, "s", url=f"{url}{k}.jpg") for k in keys])
    fetch_media(workspace)
    probe_store(workspace)
    rows = workspace.catalog.rows(
        "SELECT post_id, digest FROM stored WHERE platform = $p", p=platform
    )
    found = {row["post_id"]: row["digest"] for row in rows}
    return [found[key] for key in keys]


def vote(workspace, digest, choice, who="p"):
    made = Annotation(f"{who}-{digest}", "2026-01-01T00:00:00Z", digest, who, choice)
    workspace.catalog.add("annotation", [made])


def groups_of(workspace):
    rows = workspace.catalog.rows(
        "SELECT group_id, list(digest ORDER BY digest) AS members FROM current_group GROUP BY group_id"
    )
    return {row["group_id"]: row["members"] for row in rows}


def sets_of(workspace):
    return sorted(groups_of(workspace).values())


def kinship_of(workspace):
    return workspace.catalog.rows("SELECT a, b, relation, why FROM current_kinship ORDER BY a, b")


def a_set():
    """Copies, a chain that drifts, and pictures of their own; later halves hold copies of earlier ones."""
    copies = [scene(n, side) for side in (64, 96, 128) for n in range(6)]
    chain = [scene(50, mix=(51, share / 9)) for share in range(10)]
    return [*copies, *chain, *(scene(n) for n in range(100, 106))]


@pytest.mark.parametrize("step", [2, 5])
def test_a_set_that_came_in_parts_has_the_groups_of_one_that_came_at_once(
    workspace, tmp_path, step
):
    pictures = a_set()
    add(workspace, pictures)
    dedupe_catalog(workspace)
    other = create_workspace(tmp_path / "parts")
    (other.root / "host").mkdir()
    (other.root / "wildrf.toml").write_text(POLICY.format(host=other.root / "host"))
    other = open_workspace(other.root)

    met: dict[str, str] = {}
    for part in range(step):
        add(other, pictures[part::step], start=1000 * part)
        dedupe_catalog(other)
        ids = {d: g for g, members in groups_of(other).items() for d in members}
        assert set(met) <= set(ids)
        met = ids

    assert sets_of(other) == sets_of(workspace)
    assert kinship_of(other) == kinship_of(workspace)
    canonical = "SELECT digest, why FROM current_group WHERE canonical ORDER BY digest"
    assert other.catalog.rows(canonical) == workspace.catalog.rows(canonical)
    assert [len(members) > 1 for members in sets_of(other)].count(True) >= 6
    assert {k["relation"] for k in kinship_of(other)} == {"chain"}


def test_a_group_keeps_its_id_when_a_smaller_digest_joins_and_a_merge_is_recorded(workspace):
    pictures = [scene(1, side) for side in range(64, 120, 4)]
    by_digest = sorted(pictures, key=lambda data: __import__("hashlib").sha256(data).hexdigest())
    add(workspace, by_digest[4:6])
    dedupe_catalog(workspace)
    ((name, _),) = groups_of(workspace).items()

    (smaller,) = add(workspace, by_digest[:1], start=100)
    dedupe_catalog(workspace)

    ((now, members),) = groups_of(workspace).items()
    assert (now, len(members)) == (name, 3)
    assert smaller < name
    first = add(workspace, [scene(7), scene(7, 96), scene(7, 128), scene(7, 80)], start=200)
    dedupe_catalog(workspace)
    review_pairs(workspace, [(first[0], smaller, Word.SAME)])
    regroup_catalog(workspace)
    rows = workspace.catalog.rows(
        "SELECT DISTINCT group_id, formerly FROM current_group ORDER BY formerly"
    )
    assert {row["group_id"] for row in rows} == {min(first)}
    assert {row["formerly"] for row in rows} == {None, name}


def test_images_that_come_later_move_no_image_to_another_split(workspace):
    first = add(workspace, a_set()[::2])
    for digest in first:
        vote(workspace, digest, "Real")
    dedupe_catalog(workspace)
    decide_labels(workspace)
    split_catalog(workspace, "v1")

    later = [
        *add(workspace, a_set()[1::2], start=1000),
        *add(workspace, [scene(0, 112), scene(100, 112)], platform="x"),
    ]
    for digest in later:
        vote(workspace, digest, "Real")
    dedupe_catalog(workspace)
    decide_labels(workspace)
    split_catalog(workspace, "v2")

    query = "SELECT digest, split FROM release_item WHERE name = $n AND split IS NOT NULL"
    before = {r["digest"]: r["split"] for r in workspace.catalog.rows(query, n="v1")}
    after = {r["digest"]: r["split"] for r in workspace.catalog.rows(query, n="v2")}
    both = before.keys() & after.keys()
    assert len(both) > 3
    assert {d: before[d] for d in both} == {d: after[d] for d in both}


def test_a_word_of_a_reviewer_survives_runs_and_links_what_no_hash_finds(workspace):
    a, b, c = add(workspace, [scene(1), scene(1, 96), scene(2)])
    dedupe_catalog(workspace)
    assert sets_of(workspace) == sorted([sorted([a, b]), [c]])

    review_pairs(workspace, [(a, b[:12], Word.DIFFERENT), (c, a, Word.SAME)])
    for _ in range(2):
        dedupe_catalog(workspace)
        assert sets_of(workspace) == sorted([sorted([a, c]), [b]])
    review_pairs(workspace, [(a, b, Word.SAME)])
    regroup_catalog(workspace)

    assert sets_of(workspace) == [sorted([a, b, c])]
    words = workspace.catalog.rows("SELECT verdict FROM match WHERE kind = 'reviewed'")
    assert [row["verdict"] for row in words] == ["same", "same"]


def test_grouping_again_without_matching_gives_the_same_rows(workspace):
    a, b, *_ = add(workspace, a_set())
    dedupe_catalog(workspace)
    review_pairs(workspace, [(a, b, Word.SAME)])
    counts = regroup_catalog(workspace)
    content = workspace.catalog.content()

    assert dedupe_catalog(workspace) == counts
    assert workspace.catalog.content() == content


def test_groups_are_not_made_before_dedupe_was_asked_for(workspace):
    add(workspace, [scene(1)])

    assert regroup_catalog(workspace) is None


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("{a}", "{a}", "are one image"),
        ("ffffffff", "{a}", "no image begins"),
        ("ab", "{a}", "short"),
    ],
)
def test_a_word_on_what_is_not_two_images_is_refused(workspace, one, other, told):
    (a,) = add(workspace, [scene(1)])

    with pytest.raises(InputError, match=told):
        review_pairs(workspace, [(one.format(a=a), other.format(a=a), Word.SAME)])


def claim(workspace, digest, kind, direction, detail):
    row = Evidence(digest, kind, "test", direction, 0.9, detail, "test")
    workspace.catalog.add("evidence", [row])


def test_an_edit_told_by_its_file_is_derived_and_stays_on_the_side_of_its_photo(workspace):
    photo, edit = add(workspace, [scene(1), scene(1, 96)])
    claim(workspace, photo, "camera", "real", "Some Camera")
    claim(workspace, edit, "iptc", "fake", "compositeWithTrainedAlgorithmicMedia")
    (test,) = add(workspace, [scene(1, 128, quality=80)], platform="x")
    claim(workspace, test, "camera", "real", "Some Camera")
    dedupe_catalog(workspace)
    for digest, choice in ((photo, "Real"), (edit, "Fake"), (test, "Real")):
        vote(workspace, digest, choice)
    decide_labels(workspace)

    told = split_catalog(workspace, "v1")

    assert sets_of(workspace) == sorted([sorted([photo, test]), [edit]])
    assert {k["relation"] for k in kinship_of(workspace)} == {"derived"}
    items = {
        r["digest"]: (r["split"], r["why"])
        for r in workspace.catalog.rows("SELECT digest, split, why FROM release_item")
    }
    assert items[test][0] == "test"
    assert items[edit][0] in (None, "test")
    assert items[edit][0] == "test" or items[edit][1] == "a related picture is in test"
    assert "label-conflict" not in told["dropped"]
    assert {k["other"] for k in explain(workspace, edit)["apart"]} == {photo, test}


def test_what_most_people_call_edited_is_derived_from_the_next_split_on(workspace):
    photo, edit = add(workspace, [scene(1), scene(1, 96)])
    dedupe_catalog(workspace)
    assert len(sets_of(workspace)) == 1
    vote(workspace, photo, "Real")
    for who in ("p", "q"):
        vote(workspace, edit, "Edited", who)
    decide_labels(workspace)

    split_catalog(workspace, "v1")

    assert sets_of(workspace) == sorted([[photo], [edit]])
    content = workspace.catalog.content()
    dedupe_catalog(workspace)
    split_catalog(workspace, "v1")
    assert workspace.catalog.content() == content


def test_one_picture_with_both_labels_blocks_itself_and_is_shown_first(workspace):
    pictures = [scene(1), scene(1, 96), *(scene(n) for n in range(2, 30))]
    a, b, *others = add(workspace, pictures)
    dedupe_catalog(workspace)
    vote(workspace, a, "Real")
    vote(workspace, b, "Fake")
    for digest in others:
        vote(workspace, digest, "Real")
    decide_labels(workspace)

    told = split_catalog(workspace, "v1")
    released = release_catalog(workspace, "v1")

    assert told["dropped"]["label-conflict"] == released["conflicts"] == 2
    assert any("both labels" in line for line in grow.release_lines(released))
    assert {row["digest"] for row in images_to_label(workspace)[:2]} == {a, b}
    assert label_status(workspace)["conflicts"] == 1
    review_pairs(workspace, [(a, b, Word.DIFFERENT)])
    assert "label-conflict" not in split_catalog(workspace, "v2")["dropped"]
    assert label_status(workspace)["conflicts"] == 0


def test_a_folder_judges_its_files_as_the_catalog_does(workspace):
    (digest,) = add(workspace, [scene(1)])
    for number, row in enumerate(CLAIMS):
        workspace.catalog.add("evidence", [Evidence(digest, row[0], str(number), *row[1:], "t")])
    claims = [Evidence(**row) for row in workspace.catalog.rows("SELECT * FROM evidence")]
    image = Image(digest, "t", 1, "JPEG")

    in_folder = member_of(image, claims)

    workspace.catalog.add("label", [])
    from curate.stages.grouping import MEMBERS, _member

    (in_catalog,) = [_member(row) for row in workspace.catalog.rows(MEMBERS)]
    assert astuple(in_folder)[2:] == astuple(in_catalog)[2:]
    assert in_folder.marks == mark(camera=True, generated=True, edited=True)


CLAIMS = [
    ("camera", "real", 0.6, "Some Camera"),
    ("generator", "fake", 0.9, "ComfyUI"),
    ("iptc", "fake", 0.7, "compositeWithTrainedAlgorithmicMedia"),
    ("tag", "fake", 1.0, "midjourney"),
    ("platform-trace", "neither", 1.0, "FBMD"),
]


def test_a_threshold_keeps_weak_matches_out_and_counts_them():
    members = [Member(Image(d, "t", 1, "JPEG")) for d in "ab"]
    weak = [Match("a", "b", "crop", 3, "t", verified=0.4)]

    assert group_images(members, weak, DedupePolicy()).unverified == 1
    found = group_images(members, weak, DedupePolicy(verified=0.3))
    assert len({row.group_id for row in found.groups}) == 1
