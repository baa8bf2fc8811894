#!/bin/sh
# SPDX-License-Identifier: MIT
# packages: root with curl,jq,prometheus,prometheus-node-exporter,rsyslog
# Metrics reach a real Prometheus through node_exporter, the alert rules and each query of the dashboard work there, and rsyslog
# writes the daemon's messages with their fields: all as dps-recipes(7) says.
# shellcheck source=tests/packages/lib/packages.sh
. /usr/lib/boot-test/packages.sh
EXAMPLES=/usr/share/doc/dps/examples/monitoring
SERVER=http://127.0.0.1:9090

answer() { curl -s --data-urlencode "query=$1" "$SERVER/api/v1/query"; }
has_samples() { [ "$(answer "$1" | jq '.data.result | length')" -gt 0 ]; }
is_value() { [ "$(answer "$1" | jq -r '.data.result[0].value[1]')" = "$2" ]; }

install_from now
systemctl enable --now dps-metrics
ln -s /run/dps-metrics/dps.prom /var/lib/prometheus/node-exporter/
cp "$EXAMPLES/dps-alerts.yml" /etc/prometheus/
promtool check rules /etc/prometheus/dps-alerts.yml
cat >/etc/prometheus/prometheus.yml <<'YAML'
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [dps-alerts.yml]
scrape_configs:
  - job_name: node
    static_configs: [{targets: ['127.0.0.1:9100']}]
YAML
systemctl restart prometheus prometheus-node-exporter
cp "$EXAMPLES/dps-rsyslog.conf" /etc/rsyslog.d/dps.conf
systemctl restart rsyslog

provision
until_true is_value 'dps_identity_state{identity="gateway",state="assigned"}' 1
until_true is_value dps_up 1

# Something for each panel to show: DPS refuses, and so does the hub.
emulator_ctl set gw-1 provisioningStatus=disabled
exits 1 dpsctl reprovision --wait gateway
dpsctl report-hub-failure gateway auth
until_true is_value 'dps_identity_last_error' 1
until_true is_value 'dps_identity_hub_failures' 1
until_true has_samples 'dps_identity_errors_total'

# shellcheck disable=SC2016 # they are variables of the dashboard
jq -r '.panels[].targets[].expr' "$EXAMPLES/dps-dashboard.json" | sed 's/\$__rate_interval/1m/g; s/\$instance/.*/g; s/\$identity/.*/g' >/run/queries
[ "$(wc -l </run/queries)" -ge 10 ]
while IFS= read -r query; do
	[ "$(answer "$query" | jq -r .status)" = success ] || fail "$query: $(answer "$query")"
	case $query in
	*dps_identity_waiting* | *certificate_expiry* | *dps_identity_step*) ;; # there is none, or it was over too soon to be seen
	*) until_true has_samples "$query" ;;
	esac
done </run/queries

# The rules, in time that Prometheus makes up.
cat >/run/alerts-test.yml <<'YAML'
rule_files: [/etc/prometheus/dps-alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'dps_up{instance="a"}', values: '1+0x60'}
      - {series: 'dps_up{instance="b"}', values: '0+0x60'}
      - {series: 'dps_identity_info{instance="a",identity="gw"}', values: '1+0x60'}
      - {series: 'dps_identity_state{instance="a",identity="gw",state="assigned"}', values: '1+0x60'}
      - {series: 'dps_identity_state{instance="c",identity="gw",state="assigned"}', values: '0+0x60'}
      - {series: 'dps_identity_configured{instance="c",identity="gw"}', values: '0+0x60'}
      - {series: 'dps_identity_hub_failures{instance="a",identity="gw"}', values: '3+0x60'}
      - {series: 'dps_identity_waiting{instance="a",identity="gw",waiting="throttled"}', values: '1+0x60'}
      - {series: 'dps_identity_token_expiry_timestamp_seconds{instance="a",identity="gw"}', values: '60+0x60'}
    alert_rule_test:
      - {eval_time: 50m, alertname: DpsdDown, exp_alerts: [{exp_labels: {severity: critical, instance: b}, exp_annotations:
          {summary: 'dpsd does not run on b', description: 'Programs still have what is in /run/dps, but nothing is renewed. See: journalctl -u dpsd'}}]}
      - {eval_time: 20m, alertname: DpsNotAssigned, exp_alerts: []}
      - {eval_time: 50m, alertname: DpsNotAssigned, exp_alerts: [{exp_labels: {severity: critical, instance: c, identity: gw, state: assigned}, exp_annotations:
          {summary: 'gw on c has no hub', description: 'See: dpsctl status gw; dpsctl check gw'}}]}
      - {eval_time: 50m, alertname: DpsConfigurationFaulty, exp_alerts: [{exp_labels: {severity: warning, instance: c, identity: gw}, exp_annotations:
          {summary: 'The configuration of gw on c has errors', description: 'See: dpsctl verify-config'}}]}
      - {eval_time: 50m, alertname: DpsHubRefuses, exp_alerts: [{exp_labels: {severity: warning, instance: a, identity: gw}, exp_annotations:
          {summary: 'The hub has refused programs of gw on a 3 times in a row', description: 'See: dpsctl status gw'}}]}
      - {eval_time: 50m, alertname: DpsCredentialExpired, exp_alerts: [{exp_labels: {severity: critical, instance: a, identity: gw}, exp_annotations:
          {summary: 'gw on a has an expired credential for the hub', description: 'Its programs cannot log in at the hub. See: dpsctl status gw'}}]}
      - {eval_time: 50m, alertname: DpsFleetThrottled, exp_alerts: [{exp_labels: {severity: warning}, exp_annotations:
          {summary: 'DPS tells 100% of the fleet to wait', description: "The id scope's quota is used up. See: dpsctl explain throttled"}}]}
  - interval: 1m
    input_series:
      - {series: 'dps_identity_failing_since_timestamp_seconds{instance="a",identity="gw"}', values: '60+0x600'}
      - {series: 'dps_identity_state{instance="a",identity="gw",state="assigned"}', values: '1+0x600'}
    alert_rule_test:
      - {eval_time: 5h, alertname: DpsRenewalFails, exp_alerts: []}
      - {eval_time: 421m, alertname: DpsRenewalFails, exp_alerts: [{exp_labels: {severity: warning, instance: a, identity: gw}, exp_annotations:
          {summary: 'gw on a has failed to renew its assignment for 7h 0m 0s', description: 'It works until its credential for the hub expires. See: dpsctl status gw'}}]}
YAML
promtool test rules /run/alerts-test.yml

# The log, with all fields.
until_true grep -q '"DPS_IDENTITY": *"gateway"' /var/log/dpsd.json
jq -e -s 'map(select(.MESSAGE_ID == "0d1a7c1e6f8c4f0d9c3a6d5e2b7f4a10" and .DPS_IDENTITY == "gateway")) | length == 1' /var/log/dpsd.json >/dev/null

# Without the daemon: what is left says so.
systemctl stop dpsd
until_true is_value dps_up 0
[ "$(property NRestarts dps-metrics.service)" = 0 ]
