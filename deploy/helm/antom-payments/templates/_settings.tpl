{{- /* The variable of a setting: drainDelaySeconds is ANTOM_PAYMENTS_DRAIN_DELAY_SECONDS. */ -}}
{{- define "antom-payments.variable" -}}
ANTOM_PAYMENTS_{{ snakecase . | upper }}
{{- end }}

{{- /* A value as text. Helm's numbers are floats: a million would be 1e+06. */ -}}
{{- define "antom-payments.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* The path that Antom signs. */ -}}
{{- define "antom-payments.notification-path" -}}
{{- get (urlParse .Values.settings.notifyUrl) "path" }}
{{- end }}

{{- /* host:port for a listener: (list . port). */ -}}
{{- define "antom-payments.address" -}}
{{- $host := (index . 0).Values.listenHost }}
{{- ternary (printf "[%s]" $host) $host (contains ":" $host) }}:{{ index . 1 }}
{{- end }}

{{- /* Environment of every container: what it reads is files, and only those it is given. */ -}}
{{- define "antom-payments.database-env" -}}
- name: ANTOM_PAYMENTS_DATABASE_URL_FILE
  value: /etc/antom-payments/database/url
{{- end }}

{{- /* Environment of server and sidecar. (dict "root" . "settings" settings) */ -}}
{{- define "antom-payments.env" -}}
{{- $keys := list }}
{{- range $index, $key := .root.Values.secrets.antomPublicKeys.keys }}
{{- $keys = append $keys (printf "/etc/antom-payments/antom-public-keys/%d" $index) }}
{{- end -}}
{{ include "antom-payments.database-env" . }}
- name: ANTOM_PAYMENTS_DATA_KEY_FILE
  value: /etc/antom-payments/data-key/key
- name: ANTOM_PAYMENTS_ANTOM_PUBLIC_KEY_FILES
  value: {{ join "," $keys }}
{{- range $name, $value := .settings }}
- name: {{ include "antom-payments.variable" $name }}
  value: {{ include "antom-payments.text" $value | quote }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What a schema cannot say. Times in seconds; tests hold the constants to the code. */ -}}
{{- define "antom-payments.refusals" -}}
{{- range list "database" "dataKey" "merchantPrivateKey" "antomPublicKeys" }}
{{- if not (index $.Values.secrets .).existingSecret }}
{{- fail (printf "secrets.%s.existingSecret: name the Secret that holds it" .) }}
{{- end }}
{{- end }}
{{- if not .Values.settings.clientId }}
{{- fail "settings.clientId: Antom's client id is needed" }}
{{- end }}
{{- if not .Values.settings.notifyUrl }}
{{- fail "settings.notifyUrl: the public URL that Antom sends notifications to is needed, as in https://pay.example/antom/notify" }}
{{- end }}
{{- $url := urlParse .Values.settings.notifyUrl }}
{{- if or (not (has $url.scheme (list "http" "https"))) (not $url.host) (not (hasPrefix "/" $url.path)) $url.query $url.fragment $url.userinfo }}
{{- fail "settings.notifyUrl: expected a URL with a path and without a query, as in https://pay.example/antom/notify" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "ANTOM_PAYMENTS_" .name }}
{{- fail (printf "extraEnv: %s belongs to settings" .name) }}
{{- end }}
{{- end }}
{{- $ports := values .Values.ports }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- fail "ports: each listener needs a port of its own" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling: minReplicas is above maxReplicas" }}
{{- end }}
{{- $flush := 5.0 }}
{{- $sidecar := 10.0 }}
{{- $margin := 5.0 }}
{{- $needed := addf .Values.settings.drainDelaySeconds .Values.settings.drainGraceSeconds $flush $sidecar $flush $margin }}
{{- if le (float64 .Values.terminationGracePeriodSeconds) $needed }}
{{- fail (printf "terminationGracePeriodSeconds: %v is too short: the drain needs more than %v s (settings.drainDelaySeconds + settings.drainGraceSeconds + %v for the server's telemetry, %v for the sidecar after it and %v for its telemetry, %v to spare)" .Values.terminationGracePeriodSeconds $needed $flush $sidecar $flush $margin) }}
{{- end }}
{{- end }}
