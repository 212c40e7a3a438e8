"""The shop of the examples is complete, refers only to what it declares, and differs where environments differ."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

SHOP = Path(__file__).parents[3] / "examples" / "shop"
ENVIRONMENTS = ("development", "staging", "production")
CLUSTER_SCOPED = frozenset(
    {
        "Namespace",
        "PriorityClass",
        "StorageClass",
        "PersistentVolume",
        "IngressClass",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "ValidatingWebhookConfiguration",
    }
)
REQUIRED_KINDS = CLUSTER_SCOPED | {
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Service",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "HorizontalPodAutoscaler",
    "PodDisruptionBudget",
    "Ingress",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "CouponCampaign",
}
WRITE = frozenset({"get", "create", "patch", "delete"})


@dataclass(frozen=True, slots=True)
class Workload:
    """A Pod template with the object that carries it."""

    kind: str
    name: str
    namespace: str
    template: Mapping[str, Any]
    claims: tuple[str, ...] = ()

    @property
    def spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.template["spec"]
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.template["metadata"]["labels"]
        return labels

    def containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


class Environment:
    """All objects of one directory, with the look-ups the tests need."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = SHOP / "environments" / name
        self.objects = [obj for file in sorted(self.directory.rglob("*.yaml")) for obj in read(file)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [obj for obj in self.objects if obj["kind"] == kind]

    def has(self, kind: str, name: str, namespace: str = "") -> bool:
        return any(key(obj)[1:] == (kind, namespace, name) for obj in self.objects)

    def workloads(self) -> Iterator[Workload]:
        for obj in self.objects:
            spec, meta = obj.get("spec", {}), obj["metadata"]
            if obj["kind"] == "CronJob":
                spec = spec["jobTemplate"]["spec"]
            elif obj["kind"] not in {"Deployment", "StatefulSet"}:
                continue
            claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", []))
            yield Workload(obj["kind"], meta["name"], meta["namespace"], spec["template"], claims)


def read(file: Path) -> list[dict[str, Any]]:
    return list(yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


@cache
def environment(name: str) -> Environment:
    return Environment(name)


def key(obj: Mapping[str, Any]) -> tuple[str, str, str, str]:
    group = obj["apiVersion"].rpartition("/")[0]
    return group, obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    rules = selector.get("matchExpressions", [])
    assert all(rule["operator"] == "In" for rule in rules)
    return all(labels.get(rule["key"]) in rule["values"] for rule in rules)


@pytest.fixture(params=ENVIRONMENTS)
def shop(request: pytest.FixtureRequest) -> Environment:
    return environment(request.param)


def test_there_is_one_directory_for_each_environment_and_no_other() -> None:
    assert sorted(entry.name for entry in (SHOP / "environments").iterdir()) == sorted(ENVIRONMENTS)


def test_every_file_is_a_plain_manifest_that_needs_no_rendering(shop: Environment) -> None:
    files = [file for file in shop.directory.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".yaml"}
    assert not {file.name for file in files} & {"kustomization.yaml", "Chart.yaml"}
    assert not [file for file in files if "${" in file.read_text(encoding="utf-8") and "postgres" not in file.name]


def test_it_has_at_least_forty_objects_of_every_kind_a_product_has(shop: Environment) -> None:
    counts = Counter(obj["kind"] for obj in shop.objects)
    assert counts.total() >= 40
    assert set(counts) >= REQUIRED_KINDS
    assert counts["Deployment"] >= 8
    assert counts["CronJob"] == counts["HorizontalPodAutoscaler"] == counts["Namespace"] == 2
    assert counts["CouponCampaign"] == 3


def test_every_object_names_its_version_kind_and_name_and_is_there_once(shop: Environment) -> None:
    assert all(obj["apiVersion"] and obj["kind"] and obj["metadata"]["name"] for obj in shop.objects)
    assert [found for found, times in Counter(map(key, shop.objects)).items() if times > 1] == []


def test_every_namespaced_object_names_a_namespace_that_is_declared_here(shop: Environment) -> None:
    declared = {obj["metadata"]["name"] for obj in shop.of("Namespace")}
    assert declared == {f"shop-{shop.name}", f"shop-{shop.name}-data"}
    for obj in shop.objects:
        namespace = obj["metadata"].get("namespace")
        assert namespace is None if obj["kind"] in CLUSTER_SCOPED else namespace in declared, key(obj)


def test_cluster_scoped_names_carry_the_environment_except_the_shared_definitions(shop: Environment) -> None:
    for obj in shop.objects:
        if obj["kind"] in CLUSTER_SCOPED - {"CustomResourceDefinition"}:
            assert obj["metadata"]["name"].startswith(f"shop-{shop.name}"), key(obj)


def test_definitions_are_the_same_bytes_in_every_environment() -> None:
    for name in ("couponcampaigns.yaml", "secretrequests.yaml"):
        copies = {(SHOP / "environments" / env / "crds" / name).read_bytes() for env in ENVIRONMENTS}
        assert len(copies) == 1, name


def test_custom_resources_use_a_served_version_of_a_definition_here(shop: Environment) -> None:
    served = {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
        for crd in shop.of("CustomResourceDefinition")
        for version in crd["spec"]["versions"]
        if version["served"]
    }
    used = {(obj["apiVersion"], obj["kind"]) for obj in shop.objects if "shop.example.com" in obj["apiVersion"]}
    assert used == served


def test_selectors_match_the_templates_they_belong_to(shop: Environment) -> None:
    workloads = {(w.kind, w.namespace, w.name): w for w in shop.workloads()}
    for obj in (*shop.of("Deployment"), *shop.of("StatefulSet")):
        template = workloads[obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]]
        assert matches(obj["spec"]["selector"], template.labels), key(obj)
        others = [w for w in workloads.values() if w is not template and w.namespace == template.namespace]
        assert not [w.name for w in others if matches(obj["spec"]["selector"], w.labels)], key(obj)


def test_every_service_and_disruption_budget_selects_a_workload_and_ports_exist(shop: Environment) -> None:
    for obj in (*shop.of("Service"), *shop.of("PodDisruptionBudget")):
        selector = dict(obj["spec"]["selector"])
        if obj["kind"] == "PodDisruptionBudget":
            selector = selector["matchLabels"]
        # The StatefulSet controller adds this label to each Pod.
        pod = selector.pop("statefulset.kubernetes.io/pod-name", "")
        found = [
            w
            for w in shop.workloads()
            if w.namespace == obj["metadata"]["namespace"] and matches({"matchLabels": selector}, w.labels)
        ]
        assert len(found) == 1, key(obj)
        assert not pod or pod.startswith(found[0].name)
        ports = {port["name"] for c in found[0].spec["containers"] for port in c.get("ports", [])}
        assert {port["targetPort"] for port in obj["spec"].get("ports", [])} <= ports, key(obj)


def test_network_policies_select_pods_that_exist(shop: Environment) -> None:
    for policy in shop.of("NetworkPolicy"):
        namespace = policy["metadata"]["namespace"]
        pods = [w.labels for w in shop.workloads() if w.namespace == namespace]
        assert any(matches(policy["spec"]["podSelector"], labels) for labels in pods), key(policy)


def test_pods_refer_only_to_accounts_settings_secrets_and_priorities_declared_here(shop: Environment) -> None:
    promised = {
        (obj["metadata"]["namespace"], obj["spec"]["secretName"], name)
        for obj in shop.of("SecretRequest")
        for name in obj["spec"]["keys"]
    }
    for w in shop.workloads():
        assert shop.has("ServiceAccount", w.spec["serviceAccountName"], w.namespace), w.name
        assert shop.has("PriorityClass", w.spec["priorityClassName"]), w.name
        maps = [v["configMap"]["name"] for v in w.spec.get("volumes", []) if "configMap" in v]
        for c in w.containers():
            maps += [source["configMapRef"]["name"] for source in c.get("envFrom", [])]
            for variable in c.get("env", []):
                ref = variable.get("valueFrom", {}).get("secretKeyRef")
                assert ref is None or (w.namespace, ref["name"], ref["key"]) in promised, (w.name, ref)
        assert not [name for name in maps if not shop.has("ConfigMap", name, w.namespace)], w.name


def test_mounted_files_and_volumes_exist(shop: Environment) -> None:
    data = {(cm["metadata"]["namespace"], cm["metadata"]["name"]): cm["data"] for cm in shop.of("ConfigMap")}
    for w in shop.workloads():
        volumes = {v["name"] for v in w.spec.get("volumes", [])} | set(w.claims)
        mounted = {mount["name"] for c in w.containers() for mount in c.get("volumeMounts", [])}
        assert mounted == volumes, w.name
        for volume in w.spec.get("volumes", []):
            source = volume.get("configMap", {})
            wanted = {item["key"] for item in source.get("items", [])}
            assert wanted <= data.get((w.namespace, source.get("name", "")), {}).keys(), w.name


def test_probes_use_ports_of_their_container(shop: Environment) -> None:
    for w in shop.workloads():
        for c in w.spec["containers"]:
            ports = {port["name"] for port in c.get("ports", [])} | {p["containerPort"] for p in c.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                handler = c.get(probe, {})
                used = [handler[how]["port"] for how in ("httpGet", "tcpSocket", "grpc") if how in handler]
                assert set(used) <= ports, (w.name, probe)


def test_every_long_running_pod_is_probed_and_every_container_is_bounded_and_confined(shop: Environment) -> None:
    for w in shop.workloads():
        assert w.spec["securityContext"]["runAsNonRoot"] is True
        assert w.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert w.kind == "CronJob" or all("readinessProbe" in c for c in w.spec["containers"]), w.name
        for c in w.containers():
            assert c["resources"]["requests"].keys() == {"cpu", "memory"}, w.name
            assert "memory" in c["resources"]["limits"], w.name
            assert c["securityContext"]["allowPrivilegeEscalation"] is False, w.name
            assert c["securityContext"]["capabilities"] == {"drop": ["ALL"]}, w.name


def test_autoscaled_deployments_leave_replicas_to_their_autoscaler(shop: Environment) -> None:
    scaled = {hpa["spec"]["scaleTargetRef"]["name"] for hpa in shop.of("HorizontalPodAutoscaler")}
    without = {obj["metadata"]["name"] for obj in shop.of("Deployment") if "replicas" not in obj["spec"]}
    assert scaled == without
    for hpa in shop.of("HorizontalPodAutoscaler"):
        assert 1 <= hpa["spec"]["minReplicas"] < hpa["spec"]["maxReplicas"]


def test_there_is_a_volume_for_each_claim_of_the_database(shop: Environment) -> None:
    (database,) = shop.of("StatefulSet")
    (claim,) = database["spec"]["volumeClaimTemplates"]
    storage = claim["spec"]["storageClassName"]
    (found,) = [obj for obj in shop.of("StorageClass") if obj["metadata"]["name"] == storage]
    assert found["provisioner"] == "kubernetes.io/no-provisioner"
    assert found["volumeBindingMode"] == "WaitForFirstConsumer"
    fitting = [
        volume
        for volume in shop.of("PersistentVolume")
        if volume["spec"]["storageClassName"] == storage
        and volume["spec"]["capacity"]["storage"] == claim["spec"]["resources"]["requests"]["storage"]
        and volume["spec"]["accessModes"] == claim["spec"]["accessModes"]
    ]
    assert len(fitting) == database["spec"]["replicas"]
    assert shop.has("Service", database["spec"]["serviceName"], database["metadata"]["namespace"])


def test_ingress_and_webhook_lead_to_services_declared_here(shop: Environment) -> None:
    ports = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"], port[field])
        for obj in shop.of("Service")
        for port in obj["spec"]["ports"]
        for field in ("name", "port")
    }
    for ingress in shop.of("Ingress"):
        assert shop.has("IngressClass", ingress["spec"]["ingressClassName"])
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                assert (ingress["metadata"]["namespace"], service["name"], service["port"]["name"]) in ports
    for webhook in (hook for obj in shop.of("ValidatingWebhookConfiguration") for hook in obj["webhooks"]):
        service = webhook["clientConfig"]["service"]
        assert (service["namespace"], service["name"], service["port"]) in ports


def test_the_webhook_can_never_hold_up_what_is_shipped(shop: Environment) -> None:
    for hook in (hook for obj in shop.of("ValidatingWebhookConfiguration") for hook in obj["webhooks"]):
        assert hook["failurePolicy"] == "Ignore"
        assert hook["timeoutSeconds"] <= 2
        assert hook["namespaceSelector"]
        assert not [obj for obj in shop.objects if matches(hook["objectSelector"], obj["metadata"].get("labels", {}))]


def test_addresses_in_settings_lead_to_services_declared_here(shop: Environment) -> None:
    services = {(obj["metadata"]["name"], obj["metadata"]["namespace"]) for obj in shop.of("Service")}
    used = set()
    for file in shop.directory.rglob("*.yaml"):
        used |= set(re.findall(r"([a-z0-9-]+)\.(shop-[a-z-]+)\.svc\b", file.read_text(encoding="utf-8")))
    assert used
    assert used <= services


def test_bindings_lead_to_roles_and_accounts_declared_here(shop: Environment) -> None:
    for binding in (*shop.of("RoleBinding"), *shop.of("ClusterRoleBinding")):
        namespace = binding["metadata"].get("namespace", "")
        role = binding["roleRef"]
        assert shop.has(role["kind"], role["name"], namespace if role["kind"] == "Role" else ""), key(binding)
        for subject in binding["subjects"]:
            if subject["kind"] == "ServiceAccount":
                assert shop.has("ServiceAccount", subject["name"], subject["namespace"]), key(binding)


def test_there_is_no_secret_and_no_moving_image_tag(shop: Environment) -> None:
    assert shop.of("Secret") == []
    digest = "@sha256:[0-9a-f]{64}" if shop.name == "production" else ""
    image = re.compile(r"[a-z.]+(/[a-z-]+)+:\d+\.\d+[0-9a-z.-]*" + digest)
    for w in shop.workloads():
        for c in w.containers():
            assert image.fullmatch(c["image"]), (w.name, c["image"])


def test_environments_differ_in_size() -> None:
    def replicas(name: str) -> dict[str, int]:
        return {obj["metadata"]["name"]: obj["spec"].get("replicas", 0) for obj in environment(name).of("Deployment")}

    small, middle, large = map(replicas, ENVIRONMENTS)
    for name in ("api", "cart", "checkout", "catalogue"):
        assert small[name] < middle[name] < large[name]


def test_the_deployer_may_write_every_kind_of_the_shop(shop: Environment) -> None:
    plurals = {
        (crd["spec"]["group"], crd["spec"]["names"]["kind"]): crd["spec"]["names"]["plural"]
        for crd in shop.of("CustomResourceDefinition")
    }
    rules = deployer_rules()
    for obj in shop.objects:
        group, kind, _, _ = key(obj)
        plural = plurals.get((group, kind), {"NetworkPolicy": "networkpolicies"}.get(kind, kind.lower() + "s"))
        plural = re.sub(r"(ss)s$", r"\1es", plural)
        assert granted(rules, group, plural) >= WRITE, key(obj)


def test_the_deployer_holds_what_the_roles_of_the_shop_hand_out(shop: Environment) -> None:
    rules = deployer_rules()
    for rule in (rule for obj in (*shop.of("Role"), *shop.of("ClusterRole")) for rule in obj["rules"]):
        for resource in rule["resources"]:
            assert granted(rules, rule["apiGroups"][0], resource) >= set(rule["verbs"]), resource


def test_the_deployer_can_not_read_secrets_or_act_as_others() -> None:
    for rule in deployer_rules():
        assert not {"secrets", "*"} & {*rule["resources"], *rule["apiGroups"]}
        assert not {"impersonate", "escalate", "bind", "*"} & set(rule["verbs"])


def test_policy_and_sync_speak_of_the_same_repository_and_account() -> None:
    (policy,) = read(SHOP / "policy.yaml")
    documents = {obj["kind"]: obj for obj in read(SHOP / "sync.yaml")}
    sync = documents["ArtifactSync"]
    (pattern,) = [match["repository"] for match in policy["spec"]["match"]]
    assert pattern.endswith("/*")
    assert sync["spec"]["source"]["repository"].startswith(pattern.removesuffix("*"))
    assert policy["spec"]["threshold"] == 1
    account = documents["ServiceAccount"]["metadata"]
    assert sync["spec"]["target"]["serviceAccountName"] == account["name"]
    assert sync["metadata"]["namespace"] == account["namespace"] == documents["Namespace"]["metadata"]["name"]
    assert documents["Role"]["rules"][0]["resourceNames"] == [account["name"]]


def deployer_rules() -> list[dict[str, Any]]:
    (role,) = [obj for obj in read(SHOP / "sync.yaml") if obj["kind"] == "ClusterRole"]
    rules: list[dict[str, Any]] = role["rules"]
    return rules


def granted(rules: list[dict[str, Any]], group: str, resource: str) -> set[str]:
    return {
        verb for rule in rules if group in rule["apiGroups"] and resource in rule["resources"] for verb in rule["verbs"]
    }
