"""Every rule of the checks before an upload, by a name that never changes its meaning.

Findings carry the rule's name (`Finding.rule`); reports for machines (JSON, SARIF, GitHub annotations) and
docs/validation.md list the same names.
"""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """Names of rules."""

    YAML = "yaml"
    UNRENDERED = "unrendered"
    OBJECT_SHAPE = "object-shape"
    OBJECT_COUNT = "object-count"
    OBJECT_NAME = "object-name"
    DUPLICATE_OBJECT = "duplicate-object"
    METADATA_STRING = "metadata-string"
    LABEL = "label"
    OBJECT_SIZE = "object-size"
    PLAIN_SECRET = "plain-secret"  # noqa: S105 - a rule's name
    KEY_FILE = "key-file"
    CREDENTIAL = "credential"
    MOVING_IMAGE_TAG = "moving-image-tag"
    UNKNOWN_FIELD = "unknown-field"
    WRONG_TYPE = "wrong-type"
    REQUIRED_FIELD = "required-field"
    ENUM = "enum"
    BAD_VALUE = "bad-value"
    DUPLICATE_ITEM = "duplicate-item"
    VALIDATION_RULE = "validation-rule"
    UNCHECKED_RULE = "unchecked-rule"
    UNKNOWN_KIND = "unknown-kind"
    MISSING_SCHEMA = "missing-schema"
    REMOVED_API = "removed-api"
    DEPRECATED_API = "deprecated-api"
    BAD_DEFINITION = "bad-definition"
    ANNOTATION = "annotation"
    UNKNOWN_ANNOTATION = "unknown-annotation"
    MISSING_DEPENDENCY = "missing-dependency"
    DEPENDENCY_CIRCLE = "dependency-circle"
    FILE = "file"


# What each rule wants, in one sentence: the text of reports and of the documentation.
RULES: dict[Rule, str] = {
    Rule.YAML: "A manifest is YAML or JSON as kubectl reads it, without duplicate keys.",
    Rule.UNRENDERED: "A directory with kustomization.yaml or Chart.yaml is rendered before it is pushed.",
    Rule.OBJECT_SHAPE: "Each document is one Kubernetes object with apiVersion, kind and metadata.name.",
    Rule.OBJECT_COUNT: "An artifact holds no more objects than an agent takes.",
    Rule.OBJECT_NAME: "Names and namespaces are such that an API server takes them.",
    Rule.DUPLICATE_OBJECT: "An object is defined once.",
    Rule.METADATA_STRING: "Labels and annotations are strings.",
    Rule.LABEL: "Labels and the keys of annotations are such that an API server takes them.",
    Rule.OBJECT_SIZE: "An object fits into etcd's limit of 1.5 MiB as JSON.",
    Rule.PLAIN_SECRET: "Secrets are encrypted, empty or references; never readable.",
    Rule.KEY_FILE: "Key and credential files are not published.",
    Rule.CREDENTIAL: "No text looks like a credential.",
    Rule.MOVING_IMAGE_TAG: "Images are named by a version or a digest, not by a tag that moves.",
    Rule.UNKNOWN_FIELD: "Every field is declared by the kind's schema.",
    Rule.WRONG_TYPE: "Every value has the type that its field declares.",
    Rule.REQUIRED_FIELD: "Required fields are there.",
    Rule.ENUM: "Values of enumerated fields are among the declared ones.",
    Rule.BAD_VALUE: "Values keep the formats, patterns and bounds of their fields.",
    Rule.DUPLICATE_ITEM: "Lists with keys hold each key once; sets hold each item once.",
    Rule.VALIDATION_RULE: "Custom resources keep the CEL rules of their definition.",
    Rule.UNCHECKED_RULE: "Every rule of a definition can be checked here.",
    Rule.UNKNOWN_KIND: "Kinds of Kubernetes' own API groups exist in the release that is aimed at.",
    Rule.MISSING_SCHEMA: "Custom kinds have a definition, in the artifact or given with --schema.",
    Rule.REMOVED_API: "API versions are still served by the release that is aimed at.",
    Rule.DEPRECATED_API: "API versions are not deprecated in the release that is aimed at.",
    Rule.BAD_DEFINITION: "A CustomResourceDefinition has a schema that can be used.",
    Rule.ANNOTATION: "Annotations of ocisync have values that it takes.",
    Rule.UNKNOWN_ANNOTATION: "Annotations of ocisync are among those that it knows.",
    Rule.MISSING_DEPENDENCY: "Objects depend on objects of the same artifact.",
    Rule.DEPENDENCY_CIRCLE: "No object depends on itself, through however many others.",
    Rule.FILE: "What is named is there, can be packed, and holds manifests.",
}

# These are told and stop nothing.
WARNINGS = frozenset(
    {
        Rule.CREDENTIAL,
        Rule.MOVING_IMAGE_TAG,
        Rule.UNCHECKED_RULE,
        Rule.MISSING_SCHEMA,
        Rule.DEPRECATED_API,
        Rule.UNKNOWN_ANNOTATION,
        Rule.MISSING_DEPENDENCY,
    }
)
