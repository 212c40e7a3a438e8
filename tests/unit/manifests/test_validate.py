from __future__ import annotations

import base64
from collections.abc import Collection

import pytest

from ocisync.manifests.parse import read_tree
from ocisync.manifests.rules import Rule
from ocisync.manifests.validate import Report, check, name_problem, tag_problem
from ocisync.model.resource import ObjectId
from ocisync.model.tree import TreeFile

HEAD = "apiVersion: v1\nkind: %s\nmetadata:\n  name: a\n  namespace: shop\n"
SECRET = HEAD % "Secret"
PLAIN = "hunter2-very-secret"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\n"


def judge(items: dict[str, str | bytes], allow: Collection[str] = ()) -> Report:
    files = tuple(
        TreeFile(path, text.encode() if isinstance(text, str) else text) for path, text in sorted(items.items())
    )
    parsed = read_tree(files)
    assert parsed.findings == ()
    return check(parsed.objects, files, allow_plain_secrets=allow)


def errors(items: dict[str, str | bytes], allow: Collection[str] = ()) -> list[str]:
    report = judge(items, allow)
    assert PLAIN not in str(report)
    assert base64.b64encode(PLAIN.encode()).decode() not in str(report)
    return [str(finding) for finding in report.errors]


def test_good_manifests_have_no_findings() -> None:
    assert judge({"a.yaml": HEAD % "ConfigMap", "README.md": "# x"}) == Report((), ())


def test_an_object_twice_names_both_places() -> None:
    found = errors({"a.yaml": HEAD % "ConfigMap", "b.yaml": "# x\n" + HEAD % "ConfigMap"})
    assert found == ["b.yaml:2:1: ConfigMap shop/a is already defined at a.yaml:1"]


def test_another_version_of_the_same_object_is_the_same_object() -> None:
    text = "apiVersion: apps/%s\nkind: Deployment\nmetadata: {name: a}\n"
    assert len(errors({"a.yaml": text % "v1" + "---\n" + text % "v1beta1"})) == 1


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_a_plain_secret_is_refused_by_key_and_line_without_its_value(field: str) -> None:
    value = base64.b64encode(PLAIN.encode()).decode() if field == "data" else PLAIN
    (found,) = errors({"s.yaml": SECRET + f"{field}:\n  password: {value}\n"})
    assert found.startswith("s.yaml:7:3: Secret shop/a: plain value of key 'password'")
    assert "--allow-plain-secret shop/a" in found


def test_a_plain_secret_inside_a_list_is_found_at_its_own_line() -> None:
    inner = SECRET + f"stringData:\n  token: {PLAIN}\n"
    text = "apiVersion: v1\nkind: List\nitems:\n- " + inner.replace("\n", "\n  ").rstrip() + "\n"
    (found,) = errors({"l.yaml": text})
    assert found.startswith("l.yaml:10:5: Secret shop/a: plain value of key 'token'")


def test_a_plain_secret_in_the_second_document_is_found_at_its_own_line() -> None:
    (found,) = errors({"l.yaml": HEAD % "ConfigMap" + "---\n" + SECRET + f"stringData: {{token: {PLAIN}}}\n"})
    assert found.startswith("l.yaml:12:14: ")


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "data:\n",
        "stringData: {password: ''}\n",
        "stringData: {password: '${DB_PASSWORD}'}\n",
        "stringData: {password: 'ENC[AES256_GCM,data:xx,iv:yy,tag:zz,type:str]'}\nsops: {mac: 'ENC[x]'}\n",
        "type: kubernetes.io/service-account-token\n",
    ],
)
def test_secrets_without_plain_values_pass(tail: str) -> None:
    assert errors({"s.yaml": SECRET + tail}) == []


@pytest.mark.parametrize(
    "tail",
    [
        "stringData: {password: 'prefix-${DB}'}\n",
        "stringData: {password: '${DB}x'}\n",
        "stringData: {password: 'ENC[AES256_GCM,data:xx]'}\n",
        "stringData: {password: 'ENC[AES256_GCM,data:xx]'}\nsops: {}\n",
        "stringData: {password: 'ENC[AES256_GCM,data:xx]', b: plain}\nsops: {mac: x}\n",
        "stringData: {password: 7}\n",
        "stringData: [x]\n",
    ],
)
def test_half_covered_secrets_do_not_pass(tail: str) -> None:
    assert len(errors({"s.yaml": SECRET + tail})) == 1


def test_the_copy_that_kubectl_apply_keeps_is_a_plain_value_too() -> None:
    tail = f"  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{PLAIN}'\n"
    (found,) = errors({"s.yaml": SECRET + tail})
    assert found.startswith("s.yaml:7:5: ")


def test_a_secret_that_was_named_passes() -> None:
    items: dict[str, str | bytes] = {"s.yaml": SECRET + f"stringData: {{password: {PLAIN}}}\n"}
    assert errors(items, ["shop/a"]) == []
    assert len(errors(items, ["other/a"])) == 1


def test_a_secret_of_another_api_group_is_no_core_secret() -> None:
    text = "apiVersion: example.com/v1\nkind: Secret\nmetadata: {name: a}\nstringData: {x: y}\n"
    assert errors({"s.yaml": text}) == []


@pytest.mark.parametrize(
    ("path", "data", "what"),
    [
        ("keys/tls.key", PEM, "a private key"),
        ("cosign.key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "a private key"),
        ("gpg.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "a private key"),
        ("keys.txt", "# created\nAGE-SECRET-KEY-1QQQ\n", "an age key"),
        ("config", "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\n", "a kubeconfig"),
        ("prod.kubeconfig", "x", "a key or credential file"),
        (".env", "A=b", "an environment file"),
        ("x/.env.production", "A=b", "an environment file"),
        ("store.p12", b"\x30\x82", "a key or credential file"),
        (".netrc", "x", "a key or credential file"),
    ],
)
def test_key_like_files_are_refused(path: str, data: str | bytes, what: str) -> None:
    (found,) = errors({path: data})
    assert found == f"{path}: looks like {what}: remove it, or list it in .ocisyncignore"


def test_public_keys_and_examples_are_no_key_files() -> None:
    items: dict[str, str | bytes] = {".env.example": "A=", "ca.crt": "-----BEGIN CERTIFICATE-----\n", "env": "A=b"}
    assert errors(items) == []


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("  a: AKIA" + "A" * 16, "AWS access key"),
        ("  a: ghp_" + "a" * 36, "GitHub token"),
        ("  a: postgres://user:" + PLAIN + "@db/x", "password in a URL"),
        ("  a: glpat-" + "a" * 20, "GitLab token"),
        ("  - name: DB_PASSWORD\n    value: " + PLAIN, "password"),
        ("  a: '-----BEGIN PRIVATE KEY-----'", "private key"),
    ],
)
def test_text_that_looks_like_a_credential_is_warned_about_by_line(line: str, kind: str) -> None:
    text = HEAD % "ConfigMap" + "data:\n" + (line if "- name" not in line else "  x:\n" + line) + "\n"
    report = judge({"c.yaml": text})
    assert report.errors == ()
    (found,) = report.warnings
    assert found.message == f"looks like a credential ({kind})"
    assert found.line == (8 if "- name" in line else 7)
    assert PLAIN not in str(report)


@pytest.mark.parametrize("line", ["  a: https://user:${PASSWORD}@host/", "  - name: TOKEN\n    value: $(OTHER)"])
def test_variables_are_no_credentials(line: str) -> None:
    report = judge({"c.yaml": HEAD % "ConfigMap" + "data:\n" + ("  x:\n" if "- name" in line else "") + line + "\n"})
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("nginx", "no tag"),
        ("nginx:latest", "moves"),
        ("registry.example:5000/nginx", "no tag"),
        ("registry.example:5000/nginx:main", "moves"),
        ("nginx:1.27", ""),
        ("nginx:latest@sha256:" + "a" * 64, ""),
        ("${IMAGE}", ""),
    ],
)
def test_an_image_is_pinned_by_a_version_or_a_digest(image: str, why: str) -> None:
    assert why in tag_problem(image)
    assert bool(tag_problem(image)) == bool(why)


def test_moving_image_tags_are_warned_about_at_their_line() -> None:
    text = (
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: a}\nspec:\n  jobTemplate:\n    spec:\n      template:\n"
        "        spec:\n          containers:\n          - name: x\n            image: nginx:latest\n"
    )
    (found,) = judge({"c.yaml": text}).warnings
    assert str(found).startswith("c.yaml:11:13: image 'nginx:latest' has a tag that moves")


@pytest.mark.parametrize(
    ("item", "good"),
    [
        (ObjectId("", "ConfigMap", "shop", "a.b-c"), True),
        (ObjectId("", "ConfigMap", "shop", "A"), False),
        (ObjectId("", "ConfigMap", "shop", "a_b"), False),
        (ObjectId("", "ConfigMap", "shop", "-a"), False),
        (ObjectId("", "ConfigMap", "shop", "a" * 254), False),
        (ObjectId("", "ConfigMap", "Shop", "a"), False),
        (ObjectId("", "ConfigMap", "a.b", "a"), False),
        (ObjectId("", "Namespace", "", "a.b"), False),
        (ObjectId("", "Service", "shop", "a" * 64), False),
        (ObjectId("rbac.authorization.k8s.io", "ClusterRole", "", "system:Node"), True),
        (ObjectId("rbac.authorization.k8s.io", "ClusterRole", "", "a/b"), False),
        (ObjectId("rbac.authorization.k8s.io", "ClusterRole", "", ".."), False),
        (ObjectId("example.com", "Widget", "shop", "v1.example.com"), True),
    ],
)
def test_names_are_those_that_an_api_server_takes(item: ObjectId, good: bool) -> None:
    assert (name_problem(item) == "") is good


def test_labels_and_annotations_must_be_strings() -> None:
    found = errors({"a.yaml": HEAD % "ConfigMap" + "  labels: {a: 1}\n  annotations:\n    b: true\n"})
    assert [line.split(": ", 1)[0] for line in found] == ["a.yaml:6:12", "a.yaml:8:5"]
    assert "put it in quotes" in found[0]


def test_an_object_over_etcds_limit_is_refused() -> None:
    (found,) = errors({"a.yaml": HEAD % "ConfigMap" + "data:\n  a: " + "x" * 1_600_000 + "\n"})
    assert "more than etcd's limit" in found


def test_aliases_count_for_the_size_of_an_object() -> None:
    text = HEAD % "ConfigMap" + "data:\n  a: &a " + "x" * 100_000 + "\n" + "".join(f"  b{i}: *a\n" for i in range(20))
    assert len(errors({"a.yaml": text})) == 1


def test_all_findings_come_together() -> None:
    items: dict[str, str | bytes] = {
        "a.yaml": SECRET
        + f"stringData: {{a: {PLAIN}, b: {PLAIN}}}\n---\n"
        + (HEAD % "ConfigMap").replace(": a", ": A"),
        "k.pem": PEM,
    }
    assert len(errors(items)) == 4


@pytest.mark.parametrize(
    ("labels", "annotations", "told"),
    [
        ('{"a b": c}', "{}", "metadata.labels['a b']: a key has letters"),
        ('{A.b/c: d}', "{A.b/c: d}", "metadata.labels['A.b/c']: what is before the '/'"),
        ("{a: b c}", "{a: b c}", "metadata.labels['a']: a label's value has letters"),
        ("{a: -b}", "{}", "metadata.labels['a']: a label's value has letters"),
        ("{}", "{a/b/c: x}", "metadata.annotations['a/b/c']: what is before the '/'"),
    ],
)  # fmt: skip
def test_labels_that_an_api_server_refuses_are_errors_at_their_line(labels: str, annotations: str, told: str) -> None:
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {labels}\n  annotations: {annotations}\n"
    found = judge({"a.yaml": text}).errors
    assert [finding.rule for finding in found] == [Rule.LABEL]
    assert found[0].message.startswith(told)
    assert found[0].line in (5, 6)


@pytest.mark.parametrize(
    ("group", "kind", "name", "good"),
    [
        ("apps", "StatefulSet", "a.b", False),
        ("apps", "Deployment", "a.b", True),
        ("batch", "CronJob", "a" * 52, True),
        ("batch", "CronJob", "a" * 53, False),
        ("batch", "Job", "a" * 64, False),
        ("policy", "PodDisruptionBudget", "A_b", True),
    ],
)
def test_names_have_the_form_that_their_kind_wants(group: str, kind: str, name: str, good: bool) -> None:
    assert (name_problem(ObjectId(group, kind, "", name)) == "") is good


@pytest.mark.parametrize("depth", [1, 3, 4, 7])
def test_a_secret_cannot_hide_in_lists_in_lists(depth: int) -> None:
    text = SECRET.replace("\n", "\n").rstrip() + f"\nstringData: {{k: {PLAIN}}}\n"
    for _ in range(depth):
        inner = "".join(f"  {line}\n" for line in text.splitlines())
        text = f"apiVersion: v1\nkind: List\nmetadata: {{name: x}}\nitems:\n-{inner[1:]}"
    files = (TreeFile("a.yaml", text.encode()),)
    parsed = read_tree(files)
    found = (*parsed.findings, *check(parsed.objects, files).errors)
    assert len(found) == 1
    assert found[0].rule == (Rule.PLAIN_SECRET if depth <= 3 else Rule.OBJECT_SHAPE)
    assert PLAIN not in str(found)
