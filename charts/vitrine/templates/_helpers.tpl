{{- define "vitrine.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* 52: the longest suffix is "-artifacts", and a Service's name ends at 63 characters */ -}}
{{- define "vitrine.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "vitrine.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "vitrine.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vitrine.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "vitrine.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "vitrine.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: vitrine
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "vitrine.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "vitrine.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "vitrine.operatorImage" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}

{{- define "vitrine.trainerImage" -}}
{{- default (printf "vitrine-trainer:%s" .Chart.AppVersion) .Values.trainer.image }}
{{- end }}

{{- define "vitrine.serverImage" -}}
{{- default (printf "vitrine-server:%s" .Chart.AppVersion) .Values.server.image }}
{{- end }}

{{- /* what Pod Security "restricted" asks of a pod, and a fixed user that is not root */ -}}
{{- define "vitrine.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "vitrine.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end }}

{{- /* resources as the operator's flags take them: JSON with every quantity a text, also `cpu: 1` */ -}}
{{- define "vitrine.resourcesJson" -}}
{{- $all := dict "requests" (dict) "limits" (dict) }}
{{- range $part, $amounts := . }}
{{- range $name, $amount := $amounts }}
{{- $_ := set (index $all $part) $name (toString $amount) }}
{{- end }}
{{- end }}
{{- toJson $all }}
{{- end }}
