{{- /* Before the others, in every pod: several at once wait for each other on a lock in the database. */ -}}
{{- define "antom-payments.migrate" -}}
name: migrate
{{ include "antom-payments.container" . }}
args: [migrate]
env:
  {{- include "antom-payments.database-env" . | nindent 2 }}
resources:
  {{- toYaml .Values.resources.migrate | nindent 2 }}
volumeMounts:
  - name: migration-database
    mountPath: /etc/antom-payments/database
    readOnly: true
  {{- include "antom-payments.mounts" . | nindent 2 }}
{{- end }}

{{- /* A native sidecar: it starts before the server, and is stopped after it. It waits for no load
balancer then, because the server has waited already ("0": merge takes 0 for unset), and it has no
private key. */ -}}
{{- define "antom-payments.notifications" -}}
{{- $own := dict
  "notificationAddress" (include "antom-payments.address" (list . .Values.ports.notifications))
  "notificationAdminAddress" (include "antom-payments.address" (list . .Values.ports.notificationAdmin))
  "notificationPath" (include "antom-payments.notification-path" .)
  "drainDelaySeconds" "0" -}}
name: notifications
restartPolicy: Always
{{ include "antom-payments.container" . }}
args: [notifications]
env:
  {{- include "antom-payments.env" (dict "root" . "settings" (merge $own .Values.settings)) | nindent 2 }}
ports:
  - name: notifications
    containerPort: {{ .Values.ports.notifications }}
  - name: sidecar-admin
    containerPort: {{ .Values.ports.notificationAdmin }}
startupProbe:
  httpGet: {path: /livez, port: sidecar-admin}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: sidecar-admin}
  periodSeconds: 5
  failureThreshold: 2
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /livez, port: sidecar-admin}
  periodSeconds: 10
  failureThreshold: 6
  timeoutSeconds: 5
resources:
  {{- toYaml .Values.resources.notifications | nindent 2 }}
volumeMounts:
  {{- include "antom-payments.shared-mounts" . | nindent 2 }}
{{- end }}

{{- define "antom-payments.server" -}}
{{- $own := dict
  "grpcAddress" (include "antom-payments.address" (list . .Values.ports.grpc))
  "adminAddress" (include "antom-payments.address" (list . .Values.ports.admin)) -}}
name: server
{{ include "antom-payments.container" . }}
args: [serve]
env:
  {{- include "antom-payments.env" (dict "root" . "settings" (merge $own .Values.settings)) | nindent 2 }}
  - name: ANTOM_PAYMENTS_MERCHANT_PRIVATE_KEY_FILE
    value: /etc/antom-payments/merchant-private-key/key
ports:
  - name: grpc
    containerPort: {{ .Values.ports.grpc }}
  - name: admin
    containerPort: {{ .Values.ports.admin }}
# "" is liveness, which only a dead process fails; "readiness" follows the database.
startupProbe:
  grpc: {port: {{ .Values.ports.grpc }}, service: ""}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  grpc: {port: {{ .Values.ports.grpc }}, service: readiness}
  periodSeconds: 5
  failureThreshold: 2
  timeoutSeconds: 3
livenessProbe:
  grpc: {port: {{ .Values.ports.grpc }}, service: ""}
  periodSeconds: 10
  failureThreshold: 6
  timeoutSeconds: 5
resources:
  {{- toYaml .Values.resources.server | nindent 2 }}
volumeMounts:
  {{- include "antom-payments.shared-mounts" . | nindent 2 }}
  - name: merchant-private-key
    mountPath: /etc/antom-payments/merchant-private-key
    readOnly: true
{{- end }}
