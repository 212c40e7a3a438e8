"""Promotion, rollback, refreshed signatures: what is signed, in which order, and what is refused before any write."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ocisync.flows import endorse as endorsing
from ocisync.flows.endorse import Endorsed, EndorseRequest
from ocisync.flows.promote import Promoted, PromoteRequest, promote
from ocisync.flows.publish import PublishRequest, publish
from ocisync.flows.sign import make_claims, sign_bundle
from ocisync.flows.tags import Query, list_tags
from ocisync.flows.trust import trust_keys
from ocisync.flows.verify import Request, verify
from ocisync.model.descriptor import CLAIM_EXPIRES, CLAIM_REVISION, CLAIM_SEQUENCE, CLAIM_SIGNED, CLAIM_TAGS
from ocisync.model.errors import InvalidInput, NotFound, Refused, Unavailable, UsageError
from ocisync.model.evidence import SignatureFormat
from ocisync.model.semver import parse_range
from ocisync.model.spec import SelectorKind
from ocisync.oci.evidence import EvidenceBudget, collect
from ocisync.signing.check import examine
from ocisync.signing.keys import Signer, generate
from tests.support.artifacts import COMMIT_TIME, tree_of
from tests.support.images import push_image
from tests.support.memory_store import MemoryStore

MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: shop}\n"
KEY, OTHER = generate(), generate()


@dataclass
class Clock:
    """A time that the test sets."""

    time: datetime = COMMIT_TIME + timedelta(days=1)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Shop:
    """A repository with two releases, A before B, and a tag `staging` at B."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: Clock = field(default_factory=Clock)
    digests: dict[str, str] = field(default_factory=dict)

    def release(self, name: str, *tags: str, hours: int = 0, signers: tuple[Signer, ...] = (KEY,)) -> str:
        tree = tree_of({"app.yaml": MANIFEST % name}, commit=name * 40, at=COMMIT_TIME + timedelta(hours=hours))
        result = publish(PublishRequest(self.store, tree, self.clock, tags=tags, signers=signers))
        self.digests[name] = result.digest
        return result.digest

    def tag(self, reference: str, *tags: str, signers: tuple[Signer, ...] = (KEY,), **more: Any) -> Promoted:
        return promote(PromoteRequest(self.store, reference, tags, self.clock, signers=signers, **more))

    def sign(self, digest: str, *tags: str, signers: tuple[Signer, ...] = (KEY,), **more: Any) -> Endorsed:
        return endorsing.endorse(EndorseRequest(self.store, digest, signers, self.clock, tags=tags, **more))

    def claims(self, digest: str, signer: Signer = KEY) -> list[dict[str, str]]:
        """The claims of every sound signature, oldest first."""
        items = collect(self.store, digest, budget=EvidenceBudget(self.clock.monotonic)).items
        found = [examine(item, [signer.public], digest) for item in items]
        return [dict(item.claims) for item in found if item.signer and not item.problem]

    def verified(self, tag: str, signer: Signer = KEY) -> str:
        """The digest that a tag leads an agent to that trusts the key."""
        trust = trust_keys([signer.public], self.store.repository)
        request = Request(self.store.repository, SelectorKind.TAG, tag)
        return verify(self.store, trust, request, now=self.clock.now()).manifest.descriptor.digest


@pytest.fixture
def shop() -> Shop:
    made = Shop()
    made.release("a", "1.0.0", hours=0)
    made.release("b", "1.1.0", "staging", hours=1)
    made.store.writes.clear()
    return made


def test_a_promotion_sets_the_tag_and_signs_for_it_with_the_time_of_the_commit(shop: Shop) -> None:
    result = shop.tag("1.0.0", "production")
    assert (result.digest, result.tags, result.unchanged) == (shop.digests["a"], ("production",), False)
    assert result.revision == f"main@sha1:{'a' * 40}"
    last = shop.claims(shop.digests["a"])[-1]
    assert last[CLAIM_TAGS] == "production"
    assert last[CLAIM_SEQUENCE] == str(int(COMMIT_TIME.timestamp()))
    assert last[CLAIM_REVISION] == f"main@sha1:{'a' * 40}"
    assert shop.verified("production") == shop.digests["a"]


def test_the_same_promotion_again_writes_nothing(shop: Shop) -> None:
    shop.tag("1.0.0", "production")
    shop.store.writes.clear()
    assert shop.tag("1.0.0", "production").unchanged is True
    assert shop.store.writes == []


def test_the_signature_is_there_before_the_tag_and_versions_are_set_before_names_that_move(shop: Shop) -> None:
    shop.tag("1.0.0", "production", "1.0", "2.0.0")
    manifests = [write for write in shop.store.writes if write.startswith("manifest ")]
    assert manifests[0].startswith("manifest sha256:")
    assert manifests[1] == "manifest 2.0.0"
    assert sorted(manifests[2:]) == ["manifest 1.0", "manifest production"]


@pytest.mark.parametrize("stop", ["blob", "manifest sha256", "manifest 2.0.0", "manifest production"])
def test_a_promotion_that_dies_at_any_write_shows_no_unsigned_tag_and_the_next_completes_it(
    stop: str, shop: Shop
) -> None:
    shop.store.stop_at(stop)
    with pytest.raises(Unavailable):
        shop.tag("1.0.0", "production", "2.0.0")
    for tag in ("production", "2.0.0"):
        if tag in shop.store.tag_digests:
            assert shop.verified(tag) == shop.digests["a"]
    shop.store.heal()
    shop.tag("1.0.0", "production", "2.0.0")
    assert shop.verified("production") == shop.verified("2.0.0") == shop.digests["a"]
    assert len(shop.claims(shop.digests["a"])) == 2  # the push's and this one's, however often it was tried


def test_nothing_is_written_when_one_of_several_tags_must_not_move(shop: Shop) -> None:
    with pytest.raises(Refused, match=r"1\.1\.0 never moves") as refused:
        shop.tag("1.0.0", "production", "1.1.0")
    assert refused.value.reason == "TagImmutable"
    assert shop.store.writes == []


def test_a_commit_s_own_tag_never_moves(shop: Shop) -> None:
    with pytest.raises(Refused, match="never moves"):
        shop.tag("1.0.0", f"sha-{'b' * 12}")


def test_a_version_tag_moves_when_it_is_forced(shop: Shop) -> None:
    shop.tag("1.0.0", "1.1.0", force_tag=True)
    assert shop.verified("1.1.0") == shop.digests["a"]


def test_a_tag_does_not_go_back_to_an_older_commit(shop: Shop) -> None:
    with pytest.raises(Refused, match="newer than") as refused:
        shop.tag("1.0.0", "staging")
    assert (refused.value.reason, "--rollback" in refused.value.hint) == ("OlderCommit", True)
    assert shop.store.writes == []


def test_a_rollback_goes_back_and_counts_as_the_newest(shop: Shop) -> None:
    shop.tag("1.0.0", "staging", rollback=True)
    assert shop.verified("staging") == shop.digests["a"]
    newest = int(shop.claims(shop.digests["a"])[-1][CLAIM_SEQUENCE])
    assert newest == int(shop.clock.now().timestamp())
    assert newest > max(int(claims[CLAIM_SEQUENCE]) for claims in shop.claims(shop.digests["b"]))


def test_after_a_rollback_a_promotion_has_the_time_of_the_commit_again(shop: Shop) -> None:
    shop.tag("1.0.0", "staging", rollback=True)
    shop.tag("1.0.0", "eu-1")
    assert shop.claims(shop.digests["a"])[-1][CLAIM_SEQUENCE] == str(int(COMMIT_TIME.timestamp()))


def test_without_a_key_the_tag_moves_and_a_note_says_that_nobody_signed_for_it(shop: Shop) -> None:
    result = shop.tag("1.0.0", "production", signers=())
    assert (result.signatures, shop.store.tag_digests["production"]) == ((), shop.digests["a"])
    assert "production" in result.notes[0]
    with pytest.raises(Refused):
        shop.verified("production")


def test_only_what_satisfies_the_named_trust_is_promoted(shop: Shop) -> None:
    trust = trust_keys([OTHER.public], shop.store.repository)
    with pytest.raises(Refused, match="refused"):
        shop.tag("1.0.0", "production", trust=trust)
    assert shop.store.writes == []
    ours = trust_keys([KEY.public], shop.store.repository)
    assert shop.tag("1.0.0", "production", signers=(OTHER,), trust=ours).digest == shop.digests["a"]
    assert shop.verified("production", OTHER) == shop.digests["a"]


def test_a_digest_is_judged_as_the_tag_that_was_typed_with_it(shop: Shop) -> None:
    trust = trust_keys([KEY.public], shop.store.repository)
    with pytest.raises(Refused):
        shop.tag(shop.digests["a"], "production", trust=trust, source_tag="staging")


def test_a_signed_time_counts_more_than_what_the_manifest_says(shop: Shop) -> None:
    descriptor = push_image(shop.store, "foreign")
    claims = make_claims(
        repository=shop.store.repository, revision="main@sha1:1", tags=["x"], sequence=1_700_000_000,
        signed=shop.clock.now(),
    )  # fmt: skip
    sign_bundle(shop.store, descriptor, KEY, claims, shop.clock.now())
    shop.tag(descriptor.digest, "y")
    last = shop.claims(descriptor.digest)[-1]
    assert (last[CLAIM_SEQUENCE], last[CLAIM_REVISION], last[CLAIM_TAGS]) == ("1700000000", "main@sha1:1", "y")


def test_what_a_tag_happens_to_point_to_is_not_signed_unless_something_proves_it(shop: Shop) -> None:
    shop.store.tag_digests["1.0.0"] = shop.digests["b"]  # the registry's owner moved it
    with pytest.raises(Refused, match="anybody may have put it there") as refused:
        shop.tag("1.0.0", "production")
    assert refused.value.reason == "Unsigned"
    with pytest.raises(Refused, match="anybody"):
        shop.tag("1.1.0", "production", signers=(OTHER,))
    assert shop.store.writes == []
    shop.tag(shop.digests["b"], "production", signers=(OTHER,))
    assert shop.verified("production", OTHER) == shop.digests["b"]


def test_after_a_rollback_what_agents_would_refuse_is_refused_before_any_write(shop: Shop) -> None:
    shop.tag("1.0.0", "staging", rollback=True)
    shop.store.writes.clear()
    with pytest.raises(Refused, match="was signed as newer") as refused:
        shop.tag("1.1.0", "staging")
    assert (refused.value.reason, refused.value.hint) == ("OlderSequence", "sign it as newer than that: --rollback")
    assert shop.store.writes == []
    shop.clock.time += timedelta(seconds=1)
    shop.tag("1.1.0", "staging", rollback=True)
    assert shop.verified("staging") == shop.digests["b"]


def test_what_has_no_time_is_signed_only_as_a_rollback(shop: Shop) -> None:
    descriptor = push_image(shop.store, "foreign")
    with pytest.raises(UsageError, match="does not say of when it is"):
        shop.tag(descriptor.digest, "y")
    shop.tag(descriptor.digest, "y", rollback=True)
    assert shop.claims(descriptor.digest)[-1][CLAIM_SEQUENCE] == str(int(shop.clock.now().timestamp()))


def test_what_is_from_the_future_is_not_signed(shop: Shop) -> None:
    shop.clock.time = COMMIT_TIME - timedelta(days=1)
    with pytest.raises(Refused, match="from the future"):
        shop.tag("1.0.0", "production")


@pytest.mark.parametrize("tag", [f"sha256-{'0' * 64}", f"sha256-{'0' * 64}.sig"])
def test_tags_that_belong_to_digests_are_not_set(tag: str, shop: Shop) -> None:
    with pytest.raises(UsageError, match="reserved"):
        shop.tag("1.0.0", tag)


def test_a_tag_that_is_none_or_missing_is_a_usage_error(shop: Shop) -> None:
    for tags in ((), ("a/b",), ("-x",)):
        with pytest.raises(UsageError):
            shop.tag("1.0.0", *tags)


def test_a_source_that_is_not_there_is_not_found(shop: Shop) -> None:
    with pytest.raises(NotFound):
        shop.tag("9.9.9", "production")


# -- sign -----------------------------------------------------------------------------------------


def test_signing_a_digest_sets_no_tag(shop: Shop) -> None:
    before = dict(shop.store.tag_digests)
    result = shop.sign(shop.digests["a"], "production", signers=(OTHER,), claims={"team": "blue"})
    assert (result.unchanged, shop.store.tag_digests) == (False, before)
    claims = shop.claims(shop.digests["a"], OTHER)
    assert [(item[CLAIM_TAGS], item["team"]) for item in claims] == [("production", "blue")]


def test_signing_the_same_again_is_unchanged(shop: Shop) -> None:
    shop.sign(shop.digests["a"], "production")
    shop.clock.time += timedelta(hours=1)
    assert shop.sign(shop.digests["a"], "production").unchanged is True


def test_a_legacy_signature_says_the_same(shop: Shop) -> None:
    result = shop.sign(shop.digests["a"], "production", legacy_signature=True, signers=(OTHER,))
    assert {item.format for item in result.signatures} == set(SignatureFormat)
    bundle, legacy = shop.claims(shop.digests["a"], OTHER)
    assert bundle == legacy


def test_a_tag_is_never_signed(shop: Shop) -> None:
    with pytest.raises(UsageError, match="only a digest"):
        shop.sign("1.0.0")


def test_without_a_key_nothing_is_signed(shop: Shop) -> None:
    with pytest.raises(UsageError, match="nothing to sign with"):
        shop.sign(shop.digests["a"], signers=())


def test_claims_of_our_own_cannot_be_given(shop: Shop) -> None:
    with pytest.raises((UsageError, InvalidInput)):
        shop.sign(shop.digests["a"], claims={"dev.ocisync.sequence": "9"})


def test_refreshing_repeats_all_claims_with_a_new_time(shop: Shop) -> None:
    shop.sign(shop.digests["a"], "production", claims={"team": "blue"})
    before = shop.claims(shop.digests["a"])
    shop.clock.time += timedelta(days=30)
    result = shop.sign(shop.digests["a"], refresh=True)
    after = shop.claims(shop.digests["a"])[len(before) :]
    now = str(int(shop.clock.now().timestamp()))
    assert all(claims[CLAIM_SIGNED] == now for claims in after)
    key = {CLAIM_SIGNED: ""}
    assert sorted(map(str, ({**item, **key} for item in after))) == sorted(
        map(str, ({**item, **key} for item in before))
    )
    assert result.unchanged is False
    assert set(result.tags) == {"1.0.0", f"sha-{'a' * 12}", "production"}


def test_refreshing_twice_repeats_each_set_of_claims_once(shop: Shop) -> None:
    for _ in range(3):
        shop.clock.time += timedelta(days=1)
        assert len(shop.sign(shop.digests["a"], refresh=True).signatures) == 1


def test_refreshing_can_be_limited_to_tags(shop: Shop) -> None:
    shop.sign(shop.digests["a"], "production")
    result = shop.sign(shop.digests["a"], "production", refresh=True)
    assert (len(result.signatures), result.tags) == (1, ("production",))


def test_a_refreshed_signature_lasts_as_long_again(shop: Shop) -> None:
    start = shop.clock.now()
    shop.sign(shop.digests["b"], "x", expires=start + timedelta(hours=10))
    shop.clock.time += timedelta(hours=20)
    shop.sign(shop.digests["b"], "x", refresh=True)
    assert shop.claims(shop.digests["b"])[-1][CLAIM_EXPIRES] == str(int((start + timedelta(hours=30)).timestamp()))
    shop.sign(shop.digests["b"], "x", refresh=True, expires=start + timedelta(hours=99))
    assert shop.claims(shop.digests["b"])[-1][CLAIM_EXPIRES] == str(int((start + timedelta(hours=99)).timestamp()))


def test_a_key_that_has_signed_nothing_refreshes_nothing(shop: Shop) -> None:
    with pytest.raises(NotFound, match="has made no signature"):
        shop.sign(shop.digests["a"], refresh=True, signers=(OTHER,))
    assert shop.store.writes == []


def test_a_signature_for_another_repository_is_not_refreshed(shop: Shop) -> None:
    store = MemoryStore("registry.example/other")
    store.blobs, store.manifests, store.tag_digests = shop.store.blobs, shop.store.manifests, shop.store.tag_digests
    with pytest.raises(NotFound):
        endorsing.endorse(EndorseRequest(store, shop.digests["a"], (KEY,), shop.clock, refresh=True))


# -- list -----------------------------------------------------------------------------------------


def test_tags_are_listed_versions_newest_first_then_names_then_commits(shop: Shop) -> None:
    shop.tag("1.0.0", "production", "1.0.0-rc.1", "v0.9.0")
    shop.store.tag_digests[f"sha256-{'0' * 64}.sig"] = shop.digests["a"]
    listing = list_tags(shop.store, Query())
    names = [tag.name for tag in listing.tags]
    commits = [f"sha-{'a' * 12}", f"sha-{'b' * 12}"]
    assert names == ["1.1.0", "1.0.0", "1.0.0-rc.1", "v0.9.0", "production", "staging", *commits]
    assert listing.hidden == 1
    assert [tag.name for tag in list_tags(shop.store, Query(everything=True)).tags][-1].startswith("sha256-")


def test_tags_are_filtered_by_range_pattern_and_number(shop: Shop) -> None:
    def found(**query: Any) -> list[str]:
        return [tag.name for tag in list_tags(shop.store, Query(**query)).tags]

    assert found(within=parse_range("^1")) == ["1.1.0", "1.0.0"]
    assert found(within=parse_range("^1"), limit=1) == ["1.1.0"]
    assert found(pattern="st*") == ["staging"]
    assert found(within=parse_range(">2")) == []


def test_details_are_what_the_artifacts_say_and_a_broken_one_costs_only_itself(shop: Shop) -> None:
    shop.store.manifests[shop.digests["a"]] = b'{"a":1,"a":2}'
    by_name = {tag.name: tag for tag in list_tags(shop.store, Query(), details=True).tags}
    assert by_name["1.1.0"].digest == shop.digests["b"]
    assert by_name["1.1.0"].revision == f"main@sha1:{'b' * 40}"
    assert datetime.fromisoformat(by_name["1.1.0"].created) == (COMMIT_TIME + timedelta(hours=1)).astimezone(UTC)
    assert by_name["1.0.0"].problem
