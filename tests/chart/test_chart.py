"""What the chart renders: who gets which secret, which port leads where, what is restricted."""

from __future__ import annotations

import inspect
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from antom_payments import settings, telemetry
from antom_payments.admin import admin_app
from antom_payments.dev import LocalPorts
from antom_payments.grpc_api.health import READINESS
from antom_payments.notifications import uvicorn_config
from antom_payments.settings import PREFIX, Settings, variable
from chart.helm import (
    FULL,
    MINIMAL,
    Manifest,
    containers,
    environment,
    notes,
    of_kind,
    pod_of,
    render,
    the,
    values,
)
from chart_docs import (
    CHART,
    OF_THE_CHART,
    SCHEMA,
    VALUES,
    rows_of_values,
    schema_text,
    value_at,
    value_of,
)

KEYS = "/etc/antom-payments"


@pytest.fixture(scope="module", params=[MINIMAL, FULL], ids=["minimal", "full"])
def release(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(values(request.param))


@pytest.fixture(scope="module")
def pod(release: list[Manifest]) -> Manifest:
    return pod_of(release)


def mounted(pod: Manifest, container: Manifest) -> dict[str, tuple[str, str]]:
    """Secret and key behind each file that a container can read."""
    secrets = {one["name"]: one["secret"] for one in pod["volumes"] if "secret" in one}
    return {
        f"{mount['mountPath']}/{item['path']}": (
            secrets[mount["name"]]["secretName"],
            item["key"],
        )
        for mount in container["volumeMounts"]
        if mount["name"] in secrets
        for item in secrets[mount["name"]]["items"]
    }


def test_the_sidecar_starts_after_the_migration_and_before_the_server(pod: Manifest) -> None:
    started = containers(pod)
    assert {name: one["args"] for name, one in started.items()} == {
        "migrate": ["migrate"],
        "notifications": ["notifications"],
        "server": ["serve"],
    }
    assert [one["name"] for one in pod["containers"]] == ["server"]
    assert "restartPolicy" not in started["migrate"]
    assert started["notifications"]["restartPolicy"] == "Always"


@pytest.mark.parametrize("file", [MINIMAL, FULL], ids=["minimal", "full"])
def test_only_the_server_gets_the_merchants_private_key(file: Path) -> None:
    given = values(file)
    secret = given["secrets"]["merchantPrivateKey"]
    key = (secret["existingSecret"], secret.get("key", "merchant_private_key.txt"))
    pod = pod_of(render(given))
    holders = {name for name, one in containers(pod).items() if key in mounted(pod, one).values()}
    assert holders == {"server"}
    named = {name for name, one in containers(pod).items() if "PRIVATE_KEY" in str(one)}
    assert named == {"server"}


def test_the_migration_alone_gets_the_owner_of_the_schema() -> None:
    pod = pod_of(render(values(FULL)))
    read = {name: mounted(pod, one) for name, one in containers(pod).items()}
    url = f"{KEYS}/database/url"
    assert read["migrate"] == {url: ("payments-database-owner", "owner-url")}
    assert read["server"][url] == read["notifications"][url] == ("payments-database", "url")


def test_every_file_that_a_variable_names_is_mounted(pod: Manifest) -> None:
    for name, container in containers(pod).items():
        told = environment(container)
        files = [file for value in told.values() for file in value.split(",") if KEYS in file]
        assert set(files) == set(mounted(pod, container)), name


def test_no_secret_is_a_value_or_in_the_environment(release: list[Manifest]) -> None:
    assert not of_kind(release, "Secret")
    assert "secretKeyRef" not in json.dumps(release)
    assert all(one["secret"]["defaultMode"] == 0o440 for one in pod_of(release)["volumes"][:5])


def test_every_variable_that_is_set_is_a_setting(pod: Manifest) -> None:
    known = {variable(name) for name in Settings.model_fields}
    for container in containers(pod).values():
        told = {name for name in environment(container) if name.startswith(PREFIX)}
        assert told <= known


OTHER: dict[str, Any] = {
    "clientId": "SANDBOX_1",
    "antomEnvironment": "sandbox",
    "merchantAccount": "books",
    "antomUrl": "https://open-de-global.alipay.com",
    "antomKeyVersion": "2",
    "notifyUrl": "https://pay.example/n",
    "logLevel": "ERROR",
    "logFormat": "console",
    # Helm's numbers are floats, and a million of them would be 1e+06.
    "streamRingEvents": 1_000_000,
}


def other(name: str) -> Any:
    """Another value of a setting than its default."""
    default = Settings.model_fields[name].default
    if isinstance(default, bool):
        return not default
    if value_of(name) in OTHER:
        return OTHER[value_of(name)]
    return default + (1.5 if isinstance(default, float) else 1)


def test_every_setting_of_the_service_can_be_set_and_arrives_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {name: other(name) for name in Settings.model_fields if name not in OF_THE_CHART}
    pod = pod_of(
        render(
            values(
                settings={value_of(name): value for name, value in given.items()},
                terminationGracePeriodSeconds=200,
            )
        )
    )
    for name in list(Settings.model_fields):
        monkeypatch.delenv(variable(name), raising=False)
    expected = settings.load(**given)
    for name, value in environment(containers(pod)["server"]).items():
        if name != variable("database_url_file"):
            monkeypatch.setenv(name, value)
    read = settings.load()
    assert {name: getattr(read, name) for name in given} == {
        name: getattr(expected, name) for name in given
    }
    assert set(settings.unknown_variables()) == set()


def test_every_port_that_is_named_is_one_that_a_container_listens_on(
    release: list[Manifest], pod: Manifest
) -> None:
    listening = {
        port["name"]: port["containerPort"]
        for container in containers(pod).values()
        for port in container.get("ports", [])
    }
    told = {
        name: int(environment(container)[variable(setting)].rpartition(":")[2])
        for container, setting, name in (
            (containers(pod)["server"], "grpc_address", "grpc"),
            (containers(pod)["notifications"], "notification_address", "notifications"),
            (containers(pod)["server"], "admin_address", "admin"),
            (containers(pod)["notifications"], "notification_admin_address", "sidecar-admin"),
        )
    }
    assert listening == told
    services = of_kind(release, "Service")
    assert {port["targetPort"] for one in services for port in one["spec"]["ports"]} == {
        *("grpc", "notifications"),
    }
    allowed = the(release, "NetworkPolicy")["spec"]["ingress"]
    always = {"grpc", "notifications"}
    assert always <= {port["port"] for rule in allowed for port in rule["ports"]} <= set(told)


def test_the_policy_lets_in_only_the_named_prometheus_to_the_metrics() -> None:
    admins = ["admin", "sidecar-admin"]
    rules = the(render(values(FULL)), "NetworkPolicy")["spec"]["ingress"]
    [found] = [rule for rule in rules if [port["port"] for port in rule["ports"]] == admins]
    assert found["from"] == values(FULL)["networkPolicy"]["metricsFrom"]
    for rule in the(render(values()), "NetworkPolicy")["spec"]["ingress"]:
        assert not {port["port"] for port in rule["ports"]} & set(admins)


def test_the_operators_prometheus_is_led_to_both_admin_listeners() -> None:
    assert not of_kind(render(values()), "PodMonitor")
    release = render(values(FULL))
    monitor, pod = the(release, "PodMonitor"), pod_of(release)
    endpoints = monitor["spec"]["podMetricsEndpoints"]
    by_setting = {
        variable(setting): int(environment(containers(pod)[name])[variable(setting)].split(":")[-1])
        for name, setting in (
            ("server", "admin_address"),
            ("notifications", "notification_admin_address"),
        )
    }
    ports = {
        port["name"]: port["containerPort"]
        for container in containers(pod).values()
        for port in container.get("ports", [])
    }
    assert [ports[one["port"]] for one in endpoints] == list(by_setting.values())
    assert {(one["path"], one["interval"]) for one in endpoints} == {("/metrics", "15s")}
    assert "/metrics" in {route.path for route in admin_app(lambda: True, None).routes}
    labels = the(release, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_defaults_are_those_of_the_service() -> None:
    fields = Settings.model_fields
    assert value_at(("ports", "grpc")) == fields["grpc_address"].default.port
    assert value_at(("ports", "notifications")) == fields["notification_address"].default.port
    assert value_at(("ports", "admin")) == LocalPorts().admin
    assert value_at(("ports", "notificationAdmin")) == LocalPorts().notification_admin
    for name in ("drain_delay_seconds", "drain_grace_seconds", "client_id", "notify_url"):
        assert value_at(("settings", value_of(name))) == fields[name].default


def test_services_say_which_protocol_they_carry(release: list[Manifest]) -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(release, "Service")}
    protocols = {name: spec["ports"][0]["appProtocol"] for name, spec in services.items()}
    assert sorted(protocols.values()) == ["http", "kubernetes.io/h2c", "kubernetes.io/h2c"]
    (headless,) = (spec for spec in services.values() if spec.get("clusterIP") == "None")
    # A headless Service translates no port.
    grpc = containers(pod_of(release))["server"]["ports"][0]["containerPort"]
    assert headless["ports"][0]["port"] == grpc


def test_services_policy_and_budget_select_the_pods_and_not_the_test(
    release: list[Manifest],
) -> None:
    deployment = the(release, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = [
        *(one["spec"]["selector"] for one in of_kind(release, "Service")),
        the(release, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        the(release, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        deployment["selector"]["matchLabels"],
    ]
    assert len(selectors) == 6
    for selector in selectors:
        assert selector.items() <= labels
        assert not selector.items() <= the(release, "Pod")["metadata"]["labels"].items()


def test_liveness_is_the_process_alone_and_readiness_the_database(pod: Manifest) -> None:
    started = containers(pod)
    server, sidecar = started["server"], started["notifications"]
    assert {server[probe]["grpc"]["port"] for probe in _PROBES} == {
        server["ports"][0]["containerPort"]
    }
    assert [server[probe]["grpc"]["service"] for probe in _PROBES] == ["", READINESS, ""]
    asked = [sidecar[probe]["httpGet"] for probe in _PROBES]
    assert [one["path"] for one in asked] == ["/livez", "/readyz", "/livez"]
    assert {one["port"] for one in asked} == {"sidecar-admin"}


_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def test_the_ingress_routes_exactly_the_path_that_antom_signs() -> None:
    release = render(values(FULL))
    (rule,) = the(release, "Ingress")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    sidecar = environment(containers(pod_of(release))["notifications"])
    assert rule["host"] == "pay.example"
    assert (path["path"], path["pathType"]) == ("/antom/notify", "Exact")
    assert sidecar[variable("notification_path")] == path["path"]
    service = path["backend"]["service"]
    (found,) = (one["spec"] for one in of_kind(release, "Service") if _name(one) == service["name"])
    assert found["ports"][0] | {"name": service["port"]["name"]} == found["ports"][0]
    assert found["ports"][0]["targetPort"] == "notifications"


def _name(manifest: Manifest) -> str:
    name: str = manifest["metadata"]["name"]
    return name


def test_every_pod_meets_the_restricted_standard(release: list[Manifest]) -> None:
    for pod in (pod_of(release), the(release, "Pod")["spec"]):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
        }
        for container in containers(pod).values():
            assert container["securityContext"] == {
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_a_platform_may_choose_the_user() -> None:
    chosen = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    context = pod_of(render(values(podSecurityContext=chosen)))["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_everything_is_in_the_namespace_of_the_release(release: list[Manifest]) -> None:
    assert {manifest["metadata"]["namespace"] for manifest in release} == {"shop"}


def test_one_pod_has_no_budget_and_an_autoscaled_deployment_no_number() -> None:
    assert not of_kind(render(values(replicas=1)), "PodDisruptionBudget")
    assert the(render(values()), "Deployment")["spec"]["replicas"] == 2
    scaled = render(values(FULL))
    assert "replicas" not in the(scaled, "Deployment")["spec"]
    target = the(scaled, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == _name(the(scaled, "Deployment"))


def test_the_sidecar_waits_for_no_load_balancer_because_the_server_has_waited(
    pod: Manifest,
) -> None:
    delays = {
        name: float(environment(container)[variable("drain_delay_seconds")])
        for name, container in containers(pod).items()
        if name != "migrate"
    }
    assert delays["notifications"] == 0 < delays["server"]


def test_the_drain_is_reckoned_with_the_times_of_the_code() -> None:
    rules = (CHART / "templates" / "_settings.tpl").read_text("utf-8")
    grace = inspect.signature(uvicorn_config).parameters["grace_seconds"].default
    assert f"$flush := {telemetry._FLUSH_SECONDS} " in rules
    assert f"$sidecar := {float(grace)} " in rules


def test_a_long_name_leaves_room_for_what_stands_behind_it() -> None:
    release = render(values(fullnameOverride="p" * 63))
    assert max(len(_name(manifest)) for manifest in release) <= 63


def test_who_installs_is_told_the_addresses_and_what_is_open() -> None:
    told, warned = notes(values(FULL)), notes(values(networkPolicy={"enabled": False}))
    assert "payments-headless.shop.svc:50051" in told
    assert "https://pay.example:8443/antom/notify" in told
    assert told.count("WARNING") == 1
    for name in ("ingress.enabled", "image.digest", "networkPolicy.enabled", "no payment is ever"):
        assert name in warned
        assert name not in told


def test_the_chart_has_the_version_of_the_service() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == metadata.version("antom-payments")


def test_the_schema_knows_the_settings_of_today() -> None:
    assert SCHEMA.read_text("utf-8") == schema_text(), "run make docs"


def test_every_value_has_a_comment_and_a_place_in_the_schema() -> None:
    documented = {path for path, _, _ in rows_of_values()}
    schema = json.loads(SCHEMA.read_text("utf-8"))
    found = set()
    waiting: list[tuple[str, Any, Any]] = [("", yaml.safe_load(VALUES.read_text("utf-8")), schema)]
    while waiting:
        path, value, allowed = waiting.pop()
        if path in documented or not isinstance(value, dict):
            found.add(path)
            continue
        if "$ref" in allowed:
            allowed = schema["definitions"][allowed["$ref"].rpartition("/")[2]]
        assert allowed["additionalProperties"] is False, path
        below = allowed["properties"]
        waiting += [(f"{path}.{key}".lstrip("."), one, below[key]) for key, one in value.items()]
    assert found == documented
