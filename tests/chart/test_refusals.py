"""What the chart refuses, in words that name the value."""

from __future__ import annotations

from typing import Any

import pytest

from antom_payments.settings import Settings
from chart.helm import ChartRefused, render, values
from chart_docs import OF_THE_CHART, value_of


@pytest.mark.parametrize("secret", ["database", "dataKey", "merchantPrivateKey", "antomPublicKeys"])
def test_a_secret_that_is_not_named_is_asked_for(secret: str) -> None:
    with pytest.raises(ChartRefused, match=f"secrets.{secret}.existingSecret"):
        render(values(secrets={secret: {"existingSecret": ""}}))


@pytest.mark.parametrize("setting", ["clientId", "notifyUrl"])
def test_a_setting_without_a_default_is_asked_for(setting: str) -> None:
    with pytest.raises(ChartRefused, match=f"settings.{setting}: .* needed"):
        render(values(settings={setting: ""}))


@pytest.mark.parametrize(
    "url",
    [
        "pay.example/antom/notify",
        "https://pay.example",
        "https://pay.example/antom/notify?key=1",
        "https://user@pay.example/antom/notify",
        "ftp://pay.example/antom/notify",
    ],
)
def test_a_notify_url_that_antom_cannot_call_is_refused(url: str) -> None:
    with pytest.raises(ChartRefused, match=r"settings\.notifyUrl: expected a URL with a path"):
        render(values(settings={"notifyUrl": url}))


@pytest.mark.parametrize("name", sorted(OF_THE_CHART))
def test_what_the_chart_sets_itself_is_no_setting(name: str) -> None:
    with pytest.raises(ChartRefused, match=f"'{value_of(name)}' not allowed"):
        render(values(settings={value_of(name): "x"}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replica": 3}, "'replica' not allowed"),
        ({"image": {"tags": "1"}}, "'tags' not allowed"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest"),
        ({"settings": {"drainDelay": 5}}, "'drainDelay' not allowed"),
        ({"settings": {"databasePoolSize": "8"}}, "/settings/databasePoolSize"),
        ({"settings": {"databasePoolSize": 0}}, "/settings/databasePoolSize"),
        ({"settings": {"streamLifeSeconds": 1141}}, "/settings/streamLifeSeconds"),
        ({"settings": {"logLevel": "LOUD"}}, "/settings/logLevel"),
        ({"settings": {"clientId": "SANDBOX 1"}}, "/settings/clientId"),
        ({"settings": {"drainGraceSeconds": None}}, "drainGraceSeconds"),
        ({"secrets": {"database": {"url": "postgresql://u:p@db/p"}}}, "'url' not allowed"),
        ({"secrets": {"antomPublicKeys": {"keys": []}}}, "/secrets/antomPublicKeys/keys"),
        ({"ports": {"grpc": 443}}, "/ports/grpc"),
        ({"ports": {"admin": 8080}}, "ports: each listener needs a port of its own"),
        ({"podMonitor": {"interval": "often"}}, "/podMonitor/interval"),
        ({"podSecurityContext": {"runAsUser": 0}}, "/podSecurityContext/runAsUser"),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, "'app.kubernetes.io/name'"),
        ({"resources": {"server": {"limit": {}}}}, "'limit' not allowed"),
        (
            {"extraEnv": [{"name": "ANTOM_PAYMENTS_LOG_LEVEL", "value": "DEBUG"}]},
            "ANTOM_PAYMENTS_LOG_LEVEL belongs to settings",
        ),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}},
            "minReplicas is above maxReplicas",
        ),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ChartRefused) as refusal:
        render(values(**changes))
    assert words in str(refusal.value)


def test_a_pod_that_would_be_killed_while_it_drains_is_refused() -> None:
    drain = {"drainDelaySeconds": 5, "drainGraceSeconds": 30}
    render(values(settings=drain, terminationGracePeriodSeconds=61))
    render(values(settings=drain | {"drainDelaySeconds": 0}, terminationGracePeriodSeconds=56))
    for settings, grace in (
        (drain, 60),
        (drain | {"drainDelaySeconds": 5.5}, 60),
        (drain | {"drainGraceSeconds": 45}, 75),
    ):
        with pytest.raises(ChartRefused, match=r"terminationGracePeriodSeconds: .* is too short"):
            render(values(settings=settings, terminationGracePeriodSeconds=grace))


def test_an_older_kubernetes_without_native_sidecars_is_refused() -> None:
    with pytest.raises(ChartRefused, match=r"kubeVersion: >=1\.29\.0-0"):
        render(values(), "--kube-version", "1.28.9")
    render(values(), "--kube-version", "1.29.0-gke.1")


def test_every_setting_is_either_a_value_or_the_charts_own() -> None:
    assert set(Settings.model_fields) > OF_THE_CHART
