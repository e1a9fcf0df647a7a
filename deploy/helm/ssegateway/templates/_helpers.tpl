{{/* The name of everything in a release. It leaves room for "-internal" in a name of 63 characters. */}}
{{- define "ssegateway.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 54 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What selects the pods. It never changes. */}}
{{- define "ssegateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ssegateway.labels" -}}
{{ include "ssegateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Whether there is a NATS: not empty if so. */}}
{{- define "ssegateway.nats" -}}
{{ .Values.nats.url }}{{ .Values.nats.urlSecret.name }}
{{- end -}}

{{/* Seconds that a pod goes on as before while the proxies learn that it stops. */}}
{{- define "ssegateway.preStopSeconds" -}}
{{ min 5 .Values.drainSeconds }}
{{- end -}}

{{/*
Seconds until a pod that stops is killed. After the window of the drain the gateway writes what waits, and
tells the backend of each end, within 4.5 s; then it stops within 1 s. The rest is for a busy node.
*/}}
{{- define "ssegateway.graceSeconds" -}}
{{ add (include "ssegateway.preStopSeconds" .) .Values.drainSeconds 10 }}
{{- end -}}

{{/* An environment variable with a plain value, or with that of a key of a Secret. */}}
{{- define "ssegateway.variable" -}}
- name: {{ .name }}
{{- if .secret.name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name }}
      key: {{ .secret.key }}
{{- else }}
  value: {{ .value | quote }}
{{- end }}
{{- end -}}

{{/* A peer of a NetworkPolicy. */}}
{{- define "ssegateway.peer" -}}
- podSelector:
    {{- toYaml .pods | nindent 4 }}
  {{- with .namespaces }}
  namespaceSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
