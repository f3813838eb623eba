{{/* The chart's name, for labels. */}}
{{- define "bgsnap.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 38 | trimSuffix "-" }}
{{- end }}

{{/*
The start of every object's name: the release's name, and the chart's where that does not hold it. Cut so that the longest
name made from it (…-operator-leader-election) has no more than 63 characters, as all names may have.
*/}}
{{- define "bgsnap.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 38 | trimSuffix "-" }}
{{- else if contains (include "bgsnap.name" .) .Release.Name }}
{{- .Release.Name | trunc 38 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "bgsnap.name" .) | trunc 38 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What pods are selected by; it must never change in a release. Takes a dict of root and component. */}}
{{- define "bgsnap.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bgsnap.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with get . "component" }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/*
Labels of an object. Takes a dict of root and, optionally, component and further labels. Those the chart needs win over
those from values, and an object's own over the common ones; no key comes twice.
*/}}
{{- define "bgsnap.labels" -}}
{{- $fixed := include "bgsnap.selectorLabels" . | fromYaml }}
{{- $_ := set $fixed "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "bgsnap" }}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $fixed "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- toYaml (merge $fixed (get . "labels" | default dict) .root.Values.commonLabels) }}
{{- end }}

{{/*
The metadata of an object. Takes a dict of root, name, and optionally component, further labels and annotations, and
clusterScoped.
*/}}
{{- define "bgsnap.metadata" -}}
name: {{ .name }}
{{- if not (get . "clusterScoped") }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "bgsnap.labels" . | nindent 2 }}
{{- with merge (dict) (get . "annotations" | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A component's image. Takes a dict of root and image. */}}
{{- define "bgsnap.image" -}}
{{- with .root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* A component's service account. Takes a dict of root and component. */}}
{{- define "bgsnap.serviceAccountName" -}}
{{- $account := (get .root.Values .component).serviceAccount }}
{{- if $account.create }}
{{- $account.name | default (printf "%s-%s" (include "bgsnap.fullname" .root) .component) }}
{{- else }}
{{- required (printf "%s.serviceAccount.name is needed when %s.serviceAccount.create is false" .component .component) $account.name }}
{{- end }}
{{- end }}

{{/* Where the metrics listen: on all addresses only when they are to be reached. */}}
{{- define "bgsnap.metricsArgs" -}}
{{- if .Values.metrics.enabled -}}
- --metrics-address=0.0.0.0:{{ .Values.metrics.port | int }}
- --metrics-auth={{ .Values.metrics.auth }}
{{- else -}}
- --metrics-address=127.0.0.1:{{ .Values.metrics.port | int }}
- --metrics-auth=none
{{- end }}
{{- end }}

{{/* The ports of a component's container. Takes a dict of root and component. */}}
{{- define "bgsnap.ports" -}}
- name: health
  containerPort: {{ (get .root.Values .component).healthPort | int }}
{{- if .root.Values.metrics.enabled }}
- name: metrics
  containerPort: {{ .root.Values.metrics.port | int }}
{{- end }}
{{- end }}

{{/*
A container's resources. Quantities become text: a plain number, which people write for whole CPUs, is refused by
server-side apply.
*/}}
{{- define "bgsnap.resources" -}}
{{- range $kind, $quantities := . }}
{{ $kind }}:
  {{- range $resource, $quantity := $quantities }}
  {{ $resource }}: {{ $quantity | toString | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What both components' pods say of images and nodes. Takes a dict of root and component. */}}
{{- define "bgsnap.scheduling" -}}
{{- $values := get .root.Values .component }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.priorityClassName }}
priorityClassName: {{ $values.priorityClassName }}
{{- else if .root.Values.priorityClass.create }}
priorityClassName: {{ include "bgsnap.fullname" .root }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
