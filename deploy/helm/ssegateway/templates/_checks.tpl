{{/* What the schema cannot say about the values. */}}
{{- define "ssegateway.check" -}}
{{- $v := .Values -}}
{{- $nats := include "ssegateway.nats" . -}}
{{- if and $v.callbackUrl $v.callbackUrlSecret.name -}}
{{- fail "callbackUrl and callbackUrlSecret.name are both set: use one of them" -}}
{{- end -}}
{{- if and $v.nats.url $v.nats.urlSecret.name -}}
{{- fail "nats.url and nats.urlSecret.name are both set: use one of them" -}}
{{- end -}}
{{- if and (gt (int $v.replicas) 1) (not $nats) -}}
{{- fail "replicas is more than 1, which needs a NATS that all pods share: set nats.url or nats.urlSecret.name. Without it a send reaches only the streams of the pod that gets it" -}}
{{- end -}}
{{- if and (or $v.nats.credentialsSecret.name $v.nats.caSecret.name) (not $nats) -}}
{{- fail "nats.credentialsSecret and nats.caSecret are for a NATS: set nats.url or nats.urlSecret.name" -}}
{{- end -}}
{{- if and $v.state.claim $nats -}}
{{- fail "state.claim and nats are both set: use one of them. The claim is for a single pod, NATS for several" -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- if not $nats -}}
{{- fail "autoscaling.enabled needs a NATS that all pods share: set nats.url or nats.urlSecret.name" -}}
{{- end -}}
{{- if lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas) -}}
{{- fail "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- end -}}
{{- $allowed := false -}}
{{- $relays := false -}}
{{- $values := dict "PORT" "none: pods listen on 3000" "INTERNAL_ADDR" "none: pods listen on :9000"
  "CALLBACK_URL" "callbackUrl" "CALLBACK_URL_FILE" "callbackUrlSecret" "DRAIN_SECONDS" "drainSeconds"
  "INTERNAL_TOKEN" "internalTokenSecret" "INTERNAL_TOKEN_FILE" "internalTokenSecret" "TLS_CERT_FILE" "tlsSecret" "TLS_KEY_FILE" "tlsSecret"
  "NATS_URL" "nats.url" "NATS_URL_FILE" "nats.urlSecret" "NATS_PREFIX" "nats.prefix" "NATS_CREDENTIALS_FILE" "nats.credentialsSecret" "NATS_CA_FILE" "nats.caSecret"
  "STATE_DIR" "state.claim" -}}
{{- range $v.extraEnv -}}
{{- $name := .name -}}
{{- with get $values $name -}}
{{- fail (printf "extraEnv must not have %s: the value of this chart for it is %s" $name .) -}}
{{- end -}}
{{- if and (eq .name "INTERNAL_ALLOW") (or .value .valueFrom) -}}{{- $allowed = true -}}{{- end -}}
{{- if and (eq .name "RELAY_URL") (or .value .valueFrom) -}}{{- $relays = true -}}{{- end -}}
{{- end -}}
{{- if not (or $v.callbackUrl $v.callbackUrlSecret.name $relays) -}}
{{- fail "callbackUrl is required: the URL where your backend answers the gateway's callbacks, such as http://backend:8000/sse/callback (or callbackUrlSecret, a Secret that holds it; or RELAY_URL in extraEnv)" -}}
{{- end -}}
{{- if $v.networkPolicy.enabled -}}
{{- if not $v.networkPolicy.backendPodSelector -}}
{{- fail "networkPolicy.backendPodSelector is required: it selects the backend's pods, which alone may use the internal port, such as {matchLabels: {app: backend}}. Or set networkPolicy.enabled to false, and internalTokenSecret" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled (not $v.networkPolicy.prometheusPodSelector) -}}
{{- fail "networkPolicy.prometheusPodSelector is required with serviceMonitor.enabled: it selects the pods of Prometheus, which the NetworkPolicy would shut out" -}}
{{- end -}}
{{- else if not (or $v.internalTokenSecret.name $allowed) -}}
{{- fail "without a NetworkPolicy every pod could use the internal port: set networkPolicy.enabled to true, or internalTokenSecret.name, or INTERNAL_ALLOW in extraEnv" -}}
{{- end -}}
{{- if $v.ingress.enabled -}}
{{- if not $v.ingress.hosts -}}
{{- fail "ingress.hosts is required with ingress.enabled: hosts with the paths of their streams, such as [{host: example.com, paths: [/events]}]" -}}
{{- end -}}
{{- range $v.ingress.hosts -}}
{{- range .paths -}}
{{- if regexMatch "//|/\\.\\.?(/|$)" . -}}
{{- fail (printf "ingress.hosts: the path %s has an empty segment, or one of dots" .) -}}
{{- end -}}
{{- if regexMatch "(?i)^/(internal|metrics)(/|$)" . -}}
{{- fail (printf "ingress.hosts: the path %s is refused: an Ingress never carries the internal API or the metrics. The backend uses the Service for them" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
