"""Every cap on untrusted input, with its unit and its reason. Nothing is read without one of these."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# Registry answers.
MANIFEST_BYTES = 4 * MIB  # the distribution spec lets registries refuse larger ones
CONFIG_BYTES = 1 * MIB
LAYER_BYTES = 50 * MIB  # compressed, held in memory; 10,000 manifests are about 0.2 MiB
BUNDLE_BYTES = 1 * MIB  # a signature bundle is about 1 KiB, keyless about 10 KiB
PREDICATE_BYTES = 720 * KIB  # in base64 and with a certificate it is a bundle of at most BUNDLE_BYTES
TRUSTED_ROOT_BYTES = 256 * KIB  # the public Sigstore instance's is about 10 KiB
ERROR_BODY_BYTES = 64 * KIB
TOKEN_BYTES = 256 * KIB
TAGS_COUNT = 100_000
PAGES_COUNT = 1_000

# Evidence budget for each digest (design: 1,000 descriptors, 200 manifests, 8 MiB, 30 s).
EVIDENCE_DESCRIPTORS = 1_000
EVIDENCE_MANIFESTS = 200
EVIDENCE_BYTES = 8 * MIB
EVIDENCE_SECONDS = 30.0

# OCI image layouts.
LAYOUT_INDEX_BYTES = 8 * MIB  # parsed JSON of nothing but brackets takes twenty times its size
LAYOUT_MANIFESTS = 30_000  # that an index leads to: some thousand artifacts with all their referrers
LAYOUT_SCAN_BYTES = 512 * MIB  # of manifests read while looking for referrers
LAYOUT_MEMBERS = 100_000  # of a tar file: some seconds and 30 MiB for a hostile one

# Closures, for mirrors. All manifests are kept until the last tag is set.
CLOSURE_ROOTS = 5_000
CLOSURE_MANIFESTS = 30_000
CLOSURE_BYTES = 48 * MIB  # of manifests; one has 1 to 3 KiB
CLOSURE_DEPTH = 8  # indexes in indexes, referrers of referrers; two are usual
CLOSURE_IMAGES = 2_000
MIRROR_FILE_BYTES = 1 * MIB

# Mirror files.
MIRROR_CONTENTS_BYTES = 8 * MIB  # parsed JSON of nothing but brackets takes twenty times its size
MIRROR_HEAD_BYTES = 64 * MIB  # manifests, configs and signatures, held in memory until all are judged
MIRROR_CARGO_BYTES = 1 * MIB  # one key, policy or trusted root
MIRROR_CARGO_COUNT = 100
MIRROR_REPOSITORIES = 5_000
MIRROR_BLOB_BYTES = 1024 * 1024 * MIB  # a tebibyte: larger than any registry takes

# Unpacking.
UNPACKED_BYTES = 100 * MIB  # held in memory; 10,000 manifests are about 10 MiB
UNPACKED_ENTRIES = 100_000
UNPACKED_FILE_BYTES = 32 * MIB
UNPACKED_RATIO = 200  # decompressed over compressed bytes above UNPACKED_RATIO_FLOOR: beyond it, a bomb
UNPACKED_RATIO_FLOOR = 16 * MIB  # small layers may compress far better than the ratio
PATH_BYTES = 1_024
PATH_DEPTH = 32

# Parsing manifests.
YAML_BYTES = 16 * MIB  # of one file; 10,000 Deployments are 8 MiB
YAML_DEPTH = 100
YAML_NODES = 750_000  # nodes after alias expansion, per file: 2 to 4 s at worst; 10,000 Deployments are about 600,000
YAML_ANCHORS = 10_000  # in one document
YAML_DOCUMENTS = 20_000
OBJECT_BYTES = 1_536 * KIB  # etcd's default request limit is 1.5 MiB
OBJECTS_COUNT = 50_000
JSON_DEPTH = 64

# Kubernetes answers.
STATUS_MESSAGE_BYTES = 256
SET_RECORD_BYTES = 64 * KIB  # what an apply says of itself: names of the source and of signers
DRIFT_RECORD_BYTES = 64 * KIB  # of one sync; an object of the API server may have 1.5 MiB
DRIFT_RECORD_ENTRIES = 200
FAILURES_COUNT = 20
INVENTORY_SHARD_BYTES = 100 * KIB
