{{/*
What the schema cannot say: values that contradict each other. Included by the operator's Deployment, which is always
there.
*/}}
{{- define "bgsnap.validate" -}}
{{- range $component := list "operator" "agent" }}
{{- if eq (int (get $.Values $component).healthPort) (int $.Values.metrics.port) }}
{{- fail (printf "%s.healthPort and metrics.port are both %d: choose another port for one of them" $component (int $.Values.metrics.port)) }}
{{- end }}
{{- end }}
{{- if not .Values.metrics.enabled }}
{{- range $name := list "serviceMonitor" "prometheusRule" "dashboard" }}
{{- if (get $.Values.metrics $name).enabled }}
{{- fail (printf "metrics.%s.enabled needs metrics.enabled: nobody reaches the metrics without it" $name) }}
{{- end }}
{{- end }}
{{- with .Values.metrics.readers }}
{{- fail "metrics.readers needs metrics.enabled: nobody reaches the metrics without it" }}
{{- end }}
{{- end }}
{{- if and .Values.networkPolicy.metricsFrom (not .Values.networkPolicy.enabled) }}
{{- fail "networkPolicy.metricsFrom needs networkPolicy.enabled: without a policy everyone reaches the metrics" }}
{{- end }}
{{- if and .Values.networkPolicy.apiServer (not .Values.networkPolicy.enabled) }}
{{- fail "networkPolicy.apiServer needs networkPolicy.enabled: without a policy the pods reach everything" }}
{{- end }}
{{- end }}
