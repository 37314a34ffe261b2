"""All files of `deploy/observability`."""

import json

from tidesight.deploying.manifests import Manifest, Object
from tidesight.deploying.observability import dashboards, google, prometheus
from tidesight.deploying.observability.queries import Queries
from tidesight.deploying.settings import DeploySettings

_FOLDER = "/var/lib/grafana/dashboards"


def render(deploy: DeploySettings, command: str) -> dict[str, str]:
    """The files by their path.

    Raises:
        MissingExtra: PyYAML or Grafana's SDK is not installed.
    """
    ask = Queries(deploy)
    manifests = (
        Manifest("prometheus/prometheus.yaml", _SCRAPED, (_compose_configuration(),)),
        Manifest("prometheus/rules.yaml", _RULES, (prometheus.rules(ask),)),
        Manifest("grafana/provisioning/datasources/prometheus.yaml", "Where the dashboards look.", (_source(),)),
        Manifest("grafana/provisioning/datasources/google-cloud-monitoring.yaml", _GOOGLE, (_google_source(),)),
        Manifest("grafana/provisioning/dashboards/tidesight.yaml", f"What lies in {_FOLDER} is shown.", (_provider(),)),
    )
    files = {one.path: one.text(command) for one in manifests}
    for board in dashboards.boards(ask):
        files[f"grafana/dashboards/{board.uid.removeprefix('tidesight-')}.json"] = _grafana_json(board)
    files["cloud-monitoring/dashboard.json"] = _json(google.dashboard(ask))
    files["cloud-monitoring/mql.md"] = google.mql_page(ask)
    for name, policy in google.alert_policies(ask).items():
        files[f"cloud-monitoring/alerts/{name}.json"] = _json(policy)
    return files


_SCRAPED = """\
For Compose: instances and the front by their names there. Elsewhere `tidesight observe --targets ...` writes its own.
With API keys, add: authorization: {type: Bearer, credentials_file: FILE} to the first job."""
_RULES = """\
Recorded series, and alerts: `page` is for now, `ticket` for the next working day. The last part of each alert's
runbook is its heading in docs/guides/dashboards.md. Checked by promtool check rules, and by rules.test.yaml."""
_GOOGLE = """\
Google Cloud Monitoring as a data source of Grafana, as a service account with roles/monitoring.viewer:
  gcloud iam service-accounts create grafana
  gcloud projects add-iam-policy-binding PROJECT --role roles/monitoring.viewer \\
    --member serviceAccount:grafana@PROJECT.iam.gserviceaccount.com
On Google Cloud, authenticationType gce needs no key. Elsewhere: jwt, with the fields of a key file in Grafana's
environment: GOOGLE_PROJECT, GOOGLE_CLIENT_EMAIL, GOOGLE_PRIVATE_KEY."""


def _compose_configuration() -> Object:
    instances = {"dns_sd_configs": [{"names": ["tidesight"], "type": "A", "port": 8080, "refresh_interval": "5s"}]}
    front = {"static_configs": [{"targets": ["front:9901"]}]}
    return prometheus.configuration([instances], [front], interval="5s")


def _source() -> Object:
    source = {
        "name": "Prometheus",
        "uid": dashboards.DATA_SOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
        "jsonData": {"timeInterval": "5s", "httpMethod": "POST"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def _google_source() -> Object:
    source = {
        "name": "Google Cloud Monitoring",
        "uid": "tidesight-google-cloud-monitoring",
        "type": "stackdriver",
        "access": "proxy",
        "jsonData": {
            "authenticationType": "jwt",
            "tokenUri": "https://oauth2.googleapis.com/token",
            "defaultProject": "$GOOGLE_PROJECT",
            "clientEmail": "$GOOGLE_CLIENT_EMAIL",
        },
        "secureJsonData": {"privateKey": "$GOOGLE_PRIVATE_KEY"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def _provider() -> Object:
    provider = {
        "name": "Tidesight",
        "type": "file",
        "folder": "Tidesight",
        "allowUiUpdates": True,
        "options": {"path": _FOLDER},
    }
    return {"apiVersion": 1, "providers": [provider]}


def _grafana_json(board: dashboards.Board) -> str:
    built = dashboards.build(board).build()
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    return str(JSONEncoder(sort_keys=True, indent=2).encode(built)) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
