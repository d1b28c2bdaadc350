{{- define "antom-payments.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* At most 49 characters, so that "-notifications" fits behind it. */ -}}
{{- define "antom-payments.fullname" -}}
{{- $name := include "antom-payments.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 49 | trimSuffix "-" }}
{{- end }}

{{- define "antom-payments.selector" -}}
app.kubernetes.io/name: {{ include "antom-payments.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: payments
{{- end }}

{{- define "antom-payments.labels" -}}
{{ include "antom-payments.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "antom-payments.service-account" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "antom-payments.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "antom-payments.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}
