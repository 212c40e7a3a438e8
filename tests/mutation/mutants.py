"""The mutants: which check is taken out, where, and which threat of docs/trust.md comes back with it.

A mutant replaces exact snippets of source code, each of which occurs once in its file; a check that stands in two
places is taken out of both. Whoever changes such a line changes the mutant with it: a test says so.
"""

from __future__ import annotations

from dataclasses import dataclass

_POLICY = "policy/evaluate.py"
_RULES = "policy/requirements.py"
_CHECK = "signing/check.py"
_KEYLESS = "policy/keyless.py"


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file below the package."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One check less. `without` says in words what is not checked any more."""

    name: str
    threat: int
    without: str
    edits: tuple[Edit, ...]

    @property
    def selected(self) -> str:
        """The tests that must notice, as pytest's `-k` takes it."""
        return f"test_t{self.threat:02}_"


def _mutant(threat: int, name: str, without: str, *edits: tuple[str, str, str]) -> Mutant:
    return Mutant(name, threat, without, tuple(Edit(*edit) for edit in edits))


MUTANTS = (
    _mutant(
        1, "refusals-pass", "a refused artifact is not handed on",
        ("flows/verify.py", "if not verdict.allowed or artifact is None:", "if artifact is None:"),
    ),
    _mutant(
        1, "no-threshold", "somebody must have signed",
        (_POLICY, "enough = len(authorities) >= rules.threshold", "enough = True"),
    ),
    _mutant(
        2, "no-watermark", "the sequence is compared with what was accepted before",
        (_RULES, "lowest = max(context.watermark, floor)", "lowest = floor"),
    ),
    _mutant(2, "no-sequence", "the sequence is compared", (_RULES, "if sequence < lowest:", "if sequence < 0:")),
    _mutant(
        2, "any-history", "only what the agent's own record accepted may be gone back to",
        ("flows/situation.py", "found_again) and digest in self.ports.watermarks.read(self.spec).accepted",
         "found_again)"),
    ),
    _mutant(
        2, "offered-history", "what the tag offers is no way back",
        ("flows/situation.py", "if offered is not None and offered.digest == digest:\n            return False",
         "if False:\n            return False"),
    ),
    _mutant(3, "no-age", "`rollback.maxAge`", (_RULES, "if age > limit:", "if False:")),
    _mutant(3, "no-expiry", "`dev.ocisync.expires`", (_RULES, "if late >= 0:", "if False:")),
    _mutant(
        4, "read-by-tag", "the manifest is read by the digest that the tag was resolved to",
        ("flows/verify.py", "manifest = store.manifest(descriptor.digest)",
         "manifest = store.manifest(request.tag or descriptor.digest)"),
    ),
    _mutant(
        4, "no-layer-digest", "config and layer are hashed (by the client, and again before unpacking)",
        ("oci/client.py", "if found != digest:", "if False:"),
        ("pack/untar.py", "if len(data) != expected.size or sha256_digest(data) != expected.digest:", "if False:"),
        ("pack/untar.py", "if claimed and diff_id != claimed:", "if False:"),
    ),
    _mutant(
        4, "no-manifest-digest", "the manifest is hashed (by the client, and again when it is read)",
        ("oci/documents.py", "if is_digest(ref) and ref != digest:", "if False:"),
        ("oci/documents.py", "    check_announced(announced, raw, what)\n", ""),
        ("pack/artifact.py", "if sha256_digest(raw) != descriptor.digest:", "if False:"),
    ),
    _mutant(
        5, "no-repository", "the signed repository is ours",
        (_RULES, "if canonical_repository(named) not in accepted:", "if False:"),
    ),
    _mutant(
        5, "no-docker-reference", "a legacy signature's `docker-reference` is ours",
        (_RULES, "named = claim or _repository_of(evidence.docker_reference)", "named = claim"),
    ),
    _mutant(
        5, "no-repository-required", "a signature must name a repository",
        (_RULES, "if context.rules.repository_claim is RepositoryClaim.REQUIRE:", "if False:"),
    ),
    _mutant(
        6, "subject-contained", "the whole subject is compared",
        (_KEYLESS, "if self.subject and identity.subject != self.subject:",
         "if self.subject and self.subject not in identity.subject:"),
    ),
    _mutant(
        6, "issuer-prefix", "the whole issuer is compared",
        (_KEYLESS, "if identity.issuer != self.issuer:", "if not identity.issuer.startswith(self.issuer):"),
    ),
    _mutant(
        6, "glob-unanchored", "a glob covers the whole of each part",
        ("policy/globs.py", "return pattern == text", "return pattern in text"),
    ),
    _mutant(
        7, "no-subject", "an identity has a subject",
        (_KEYLESS, "if bool(subject) == bool(subject_glob):", "if subject and subject_glob:"),
        (_KEYLESS, "    if subject_glob:\n        _check_glob", "    if subject_glob and False:\n        _check_glob"),
    ),
    _mutant(
        7, "open-glob", "a glob spells out whose namespace it is",
        (_KEYLESS, 'if not literal or "*" in literal:', "if False:"),
    ),
    _mutant(
        7, "no-key-no-identity", "an authority has a key or an identity",
        ("policy/rules.py", 'if fields.has("keyless") == fields.has("key"):', "if False:"),
        ("policy/rules.py", 'if key.has("pem") == key.has("secretRef"):', "if False:"),
        (_KEYLESS, "if not _is_url(issuer):", "if False:"),
        ("policy/fields.py", 'if value is None or (value == "" and default is None):', "if value is None:"),
    ),
    _mutant(
        8, "any-predicate", "the predicate type is that of signatures (when it is examined, and when it is counted)",
        (_CHECK, "if signed.predicate_type != SIGN_PREDICATE:", "if False:"),
        (_RULES, "if evidence.predicate_type != SIGN_PREDICATE or not evidence.subject:", "if False:"),
    ),
    _mutant(
        9, "no-manifest-budget", "how many referrers are read",
        ("oci/evidence.py", "        if self._manifests <= 0:\n            raise _Exhausted\n", ""),
    ),
    _mutant(
        9, "truncated-is-complete", "what was left unread is told",
        (_POLICY, '    if truncated:\n        message = f"there is', '    if False:\n        message = f"there is'),
    ),
    _mutant(
        10, "no-bundle-size", "the size of a bundle, before it is read",
        ("oci/evidence.py", "if descriptor.size > BUNDLE_BYTES:", "if False:"),
        ("oci/evidence.py", ".blob(descriptor, max_bytes=BUNDLE_BYTES)", ".blob(descriptor, max_bytes=1 << 40)"),
    ),
    _mutant(
        11, "bundles-hide-legacy", "every signature is looked at, in both formats",
        ("oci/evidence.py", "            self._attempt(legacy_signature_tag(self._digest), self._legacy)\n",
         "            if not self._items:\n"
         "                self._attempt(legacy_signature_tag(self._digest), self._legacy)\n"),
    ),
    _mutant(
        11, "broken-hides-good", "a broken signature costs only itself",
        (_CHECK, "        return Evidence(raw.source, raw.format, problem=str(error))\n", "        raise\n"),
    ),
    _mutant(
        12, "any-format", "the format is one that the policy lists",
        (_RULES, "if evidence.format not in context.rules.formats:", "if False:"),
    ),
    _mutant(
        13, "no-log-proof", "the log entry and the certificate are verified at all",
        ("signing/keyless.py", "    _verify(envelope, material, trusted)\n    return Root", "    return Root"),
    ),
    _mutant(
        14, "no-windows", "the window of each part of the trusted root",
        ("signing/roots.py", "[part for part in self.parts if part.covers(moments)]", "list(self.parts)"),
    ),
    _mutant(
        15, "image-and-index", "a manifest is not an index too",
        ("pack/artifact.py", 'if media_type == OCI_INDEX or "manifests" in document:', "if False:"),
    ),
    _mutant(
        15, "any-media-type", "the manifest states its type",
        ("pack/artifact.py", 'if media_type == OCI_INDEX or "manifests" in document:', 'if "manifests" in document:'),
        ("pack/artifact.py", "types = _READABLE.get(media_type) if isinstance(media_type, str) else None",
         "types = _READABLE[OCI_MANIFEST]"),
    ),
    _mutant(
        15, "types-disagree", "stated and served type agree",
        ("oci/documents.py", "(inner and outer and inner != outer)", "False"),
    ),
    _mutant(
        16, "any-digest", "the signed digest is that of this manifest (when it is examined, and when it is counted)",
        (_CHECK, "    if found.subject != digest:\n", "    if False:\n"),
        (_RULES, "if evidence.subject and evidence.subject != digest:", "if False:"),
    ),
    _mutant(
        17, "any-digest-signed", "the signed digest is ours (when it is examined, and when it is counted)",
        (_CHECK, "    if found.subject != digest:\n", "    if False:\n"),
        (_RULES, "if evidence.subject and evidence.subject != digest:", "if False:"),
    ),
    _mutant(
        17, "several-subjects", "a statement has one subject",
        ("signing/statement.py", "len(subjects) != 1 or", "not subjects or"),
    ),
    _mutant(
        18, "duplicate-keys", "JSON keys are there once",
        ("kit/strictjson.py", "    if len(out) != len(pairs):\n", "    if False:\n"),
    ),
    _mutant(
        18, "signatures-counted", "signers are counted, not signatures",
        (_POLICY, "authorities = reached(votes)", "authorities = tuple(vote.authority for vote in votes)"),
    ),
    _mutant(
        18, "lax-fields", "bundle and certificate material have no unknown fields",
        ("signing/statement.py", "    if unknown:\n", "    if False:\n"),
    ),
    _mutant(
        19, "any-hash", "the hash belongs to the kind of key",
        ("signing/keys.py", "                self._key.verify(signature, data, ec.ECDSA(hashes.SHA256()))\n",
         "                for algorithm in (hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):\n"
         "                    try:\n"
         "                        self._key.verify(signature, data, ec.ECDSA(algorithm))\n"
         "                        return True\n"
         "                    except InvalidSignature:\n"
         "                        pass\n"
         "                return False\n"),
    ),
    _mutant(
        19, "any-padding", "the padding belongs to the kind of key",
        ("signing/keys.py", "                self._key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())\n",
         "                try:\n"
         "                    self._key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())\n"
         "                except InvalidSignature:\n"
         "                    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)\n"
         "                    self._key.verify(signature, data, pss, hashes.SHA256())\n"),
    ),
    _mutant(
        19, "any-curve", "the curve of a key",
        ("signing/keys.py", "if not isinstance(key.curve, ec.SECP256R1):", "if False:"),
    ),
    _mutant(
        19, "any-certificate-key", "the kind of a certificate's key",
        ("signing/certificate.py",
         "if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):", "if False:"),
    ),
    _mutant(
        20, "nothing-is-enough", "a missing signature is missing",
        (_POLICY, "enough = len(authorities) >= rules.threshold",
         "enough = not judged or len(authorities) >= rules.threshold"),
    ),
    _mutant(
        20, "no-reading-back", "what was signed reads back as it was written",
        ("flows/sign.py",
         "if store.manifest(attached.digest).raw != raw or store.blob(layer, max_bytes=BUNDLE_BYTES) != data:",
         "if False:"),
    ),
    _mutant(
        21, "machine-clock", "parts of the root are chosen by the time of signing, not by the clock",
        ("signing/roots.py", 'return {**part.document, "validFor": _ALWAYS}', "return dict(part.document)"),
        ("signing/roots.py",
         'return {**part.document, "publicKey": {**part.document["publicKey"], "validFor": _ALWAYS}}',
         "return dict(part.document)"),
    ),
    _mutant(
        21, "certificate-minutes", "the certificate was valid when it signed",
        ("signing/keyless.py", "    _verify(envelope, material, trusted)\n    return Root", "    return Root"),
    ),
    _mutant(
        22, "denied-keys-count", "signatures of denied keys do not count",
        (_RULES, "if evidence.signer in context.denied_keys:", "if False:"),
    ),
    _mutant(
        22, "denied-keys-write", "what a denied key signed is distrusted, not merely unsigned",
        (_POLICY, "if not verdict.allowed and vouching:", "if False:"),
    ),
    _mutant(
        22, "one-is-enough", "as many authorities as the policy says",
        (_POLICY, "enough = len(authorities) >= rules.threshold", "enough = len(authorities) >= 1"),
    ),
    _mutant(
        23, "claims-optional", "claims are signed ones",
        (_RULES, "if context.rules.repository_claim is RepositoryClaim.REQUIRE:", "if False:"),
    ),
    _mutant(
        23, "any-identity", "the identity is that of the certificate",
        (_KEYLESS, "if self.subject_glob and not glob_matches(self.subject_glob, identity.subject):", "if False:"),
        (_KEYLESS, "if self.subject and identity.subject != self.subject:", "if False:"),
    ),
    _mutant(
        24, "content-believed", "what the layer unpacks to is what the config says",
        ("pack/untar.py", "if claimed and diff_id != claimed:", "if False:"),
    ),
    _mutant(
        24, "planted-is-ours", "push compares contents by bytes",
        ("flows/publish.py", "return content_digest(layer) == built.diff_id", "return bool(layer)"),
    ),
    _mutant(
        25, "any-tag", "the signed tags hold ours",
        (_RULES, "if tag not in claim.split():", "if False:"),
    ),
    _mutant(
        25, "tag-contained", "tags are compared whole",
        (_RULES, "if tag not in claim.split():", "if tag not in claim:"),
    ),
    _mutant(
        25, "no-tag-required", "a signature must name tags",
        (_RULES, "        if mode is TagClaim.REQUIRE:\n", "        if False:\n"),
    ),
    _mutant(
        25, "versions-move", "version tags never move",
        ("flows/verify.py", "if not before or before == digest or not is_semver_tag(request.tag):", "if True:"),
    ),
    _mutant(
        26, "claims-combined", "each signature satisfies the sequence rule alone",
        (_RULES, "if sequence < lowest:", "if sequence < 0:"),
    ),
    _mutant(
        26, "highest-sequence", "the watermark rises to what enough authorities reach together",
        ("policy/counting.py", "if vote.sequence >= sequence)) >= threshold:", "if vote.sequence >= sequence)) >= 1:"),
    ),
    _mutant(
        26, "from-the-future", "a sequence far ahead of the clock is not believed",
        (_RULES, "if sequence > context.now.timestamp() + AHEAD_S:", "if False:"),
    ),
    _mutant(
        27, "same-key-twice", "two authorities are not one key or identity",
        ("policy/rules.py", "        if signer in owner:\n", "        if False:\n"),
    ),
    _mutant(
        27, "one-signer-twice", "one signer is counted for one authority",
        ("policy/counting.py", "return tuple(sorted(_match(votes)))",
         "return tuple(sorted({vote.authority for vote in votes}))"),
    ),
    _mutant(
        28, "own-deny-list-only", "deny lists of every matching policy",
        ("policy/select.py", "deny = _union(rules)", "deny = _union(rules[:1])"),
    ),
    _mutant(
        28, "invalid-yields", "an invalid policy refuses",
        ("policy/select.py", "problem = _broken_problem(broken) or _duplicate_problem(rules, name)",
         "problem = _duplicate_problem(rules, name)"),
    ),
    _mutant(
        28, "same-pattern-twice", "one pattern has one policy",
        ("policy/select.py", "problem = _broken_problem(broken) or _duplicate_problem(rules, name)",
         "problem = _broken_problem(broken)"),
    ),
    _mutant(
        28, "no-floors", "floors are judged, too",
        ("policy/select.py", "tuple(policy for policy in others if policy.floor)", "()"),
    ),
    _mutant(
        28, "warn-under-floor", "mode Warn means nothing under a floor",
        (_POLICY, "policy.mode is not Mode.WARN or selection.floors:", "policy.mode is not Mode.WARN:"),
    ),
    _mutant(
        29, "unknown-fields", "policies have no unknown fields",
        ("policy/fields.py", "for name in sorted(str(name) for name in set(self._value) - set(known)):",
         "for name in sorted(()):"),
    ),
    _mutant(
        30, "no-certificate-claims", "the certificate's claims",
        (_KEYLESS, "            if stated.get(name) != wanted:\n", "            if False:\n"),
    ),
    _mutant(
        30, "no-implied-repository", "a workflow implies its repository",
        (_KEYLESS, "if _is_workflow(issuer, text) and not _SOURCE_CLAIMS & set(stated):", "if False:"),
    ),
    _mutant(
        31, "distrust-is-doubt", "distrust stops corrections",
        ("flows/rejudge.py", '            paused = "distrusted"\n', '            paused = ""\n'),
    ),
    _mutant(
        31, "pause-ignored", "a paused sync corrects nothing (when drift is seen, and when it is due)",
        ("cluster/judging.py", "        if rules.paused:\n            self", "        if False:\n            self"),
        ("cluster/working.py", "        if rules is None or rules.paused:\n            kept.touched",
         "        if rules is None:\n            kept.touched"),
    ),
    _mutant(
        31, "broken-lifts-distrust", "a policy that breaks does not lift a deny list",
        ("flows/rejudge.py", "if enforced.verdict.distrusted and verdict.reason is VerdictReason.INVALID_POLICY:",
         "if False:"),
    ),
    _mutant(
        32, "login-kept", "the source is named without user and password",
        ("source/revision.py", "host, port = parts.hostname, parts.port", "host, port = parts.netloc, None"),
    ),
    _mutant(
        32, "query-kept", "the source is named without its query",
        ("source/revision.py", "return _joined(scheme, host, port, parts.path)",
         'return _joined(scheme, host, port, parts.path).removesuffix(".git") + "?" + parts.query'),
    ),
    _mutant(
        33, "asks-without-policy", "without a usable policy nobody is asked",
        ("flows/verify.py",
         "    if not trust.select(request.repository).matched:\n        # Also for broken",
         "    if False:\n        # Also for broken"),
    ),
    _mutant(
        33, "redirects-anywhere", "where a redirect leads is judged before it is followed",
        ("oci/transport.py", "problem = self._guard.problem_of_name(urlsplit(target).netloc)", "pass"),
    ),
    _mutant(
        34, "no-file-verdicts", "what the policies refuse of a file is not imported",
        ("mirror/filejudge.py", "return self.verdict.allowed or not self.judged", "return True"),
    ),
    _mutant(
        34, "any-adopting-key", "a key that is trusted already signed the file",
        ("mirror/trustfile.py", "    if not signers_among(head.sealed, keys):\n", "    if False:\n"),
    ),
    _mutant(
        34, "old-editions", "the version rises",
        ("mirror/trustfile.py", "    if version <= adopted.version:\n", "    if False:\n"),
    ),
    _mutant(
        34, "same-edition-again", "the version rises, and is not merely as high",
        ("mirror/trustfile.py", "    if version <= adopted.version:\n", "    if version < adopted.version:\n"),
    ),
    _mutant(
        34, "any-fingerprint", "the fingerprint is that of something in the file",
        ("mirror/trustfile.py", "        if wanted not in by_digest:\n", "        if False:\n"),
        ("mirror/trustfile.py", "return tuple(by_digest[wanted] for wanted in dict.fromkeys(fingerprints))",
         "return head.contents.cargo"),
    ),
    _mutant(
        34, "private-keys-travel", "nothing in the file is a private key",
        ("mirror/save.py", 'if b"PRIVATE KEY" in data:', "if False:"),
    ),
    _mutant(
        35, "one-list-for-all", "only what is listed for a repository is there when it is judged and loaded",
        ("mirror/filejudge.py", "    for part in head.contents.parts:\n",
         "    everything = head.contents.parts\n"
         "    for part in everything:\n"
         "        part = replace(\n"
         "            part,\n"
         "            manifests=tuple({m.digest: m for one in everything for m in one.manifests}.values()),\n"
         "            blobs=tuple({b.digest: b for one in everything for b in one.blobs}.values()),\n"
         "        )\n"),
    ),
    _mutant(
        35, "any-sender", "a key of the sender signed the list of contents",
        ("mirror/load.py", "    if keys and not senders:\n", "    if False:\n"),
    ),
    _mutant(
        35, "any-payload", "the sender's signature is over this list",
        ("signing/envelope.py", "if any(key.verify(sig, data) for _, sig in sealed.signatures))",
         "if sealed.signatures and data)"),
    ),
)  # fmt: skip
