{{- define "antom-payments.container" -}}
image: {{ include "antom-payments.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  runAsNonRoot: true
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "antom-payments.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What server and sidecar both read. */ -}}
{{- define "antom-payments.shared-mounts" -}}
- name: database
  mountPath: /etc/antom-payments/database
  readOnly: true
- name: data-key
  mountPath: /etc/antom-payments/data-key
  readOnly: true
- name: antom-public-keys
  mountPath: /etc/antom-payments/antom-public-keys
  readOnly: true
{{ include "antom-payments.mounts" . }}
{{- end }}

{{- /* A volume with one key of a Secret: (list name secret file) */ -}}
{{- define "antom-payments.secret-volume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ (index . 1).existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ (index . 1).key }}
        path: {{ index . 2 }}
{{- end }}

{{- define "antom-payments.volumes" -}}
{{- with .Values.secrets }}
{{- include "antom-payments.secret-volume" (list "database" .database "url") }}
{{ include "antom-payments.secret-volume" (list "migration-database" (ternary .migrationDatabase .database (ne .migrationDatabase.existingSecret "")) "url") }}
{{ include "antom-payments.secret-volume" (list "data-key" .dataKey "key") }}
{{ include "antom-payments.secret-volume" (list "merchant-private-key" .merchantPrivateKey "key") }}
- name: antom-public-keys
  secret:
    secretName: {{ .antomPublicKeys.existingSecret }}
    defaultMode: 0440
    items:
      {{- range $index, $key := .antomPublicKeys.keys }}
      - key: {{ $key }}
        path: {{ $index | quote }}
      {{- end }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
