{{- /* Names, labels, and where things are. */ -}}

{{- define "atlas.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 35 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 35 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- /* What every pod of this release has, and no other. */ -}}
{{- define "atlas.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "atlas.labels" -}}
{{ include "atlas.selector" . }}
app.kubernetes.io/part-of: atlas
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* Of the services' image, or of `dict "root" . "image" OVERRIDES`. */ -}}
{{- define "atlas.image" -}}
{{- $image := merge (dict) (default (dict) .image) .root.Values.image -}}
{{ $image.repository }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end }}

{{- /* As the NATS chart names its objects. */ -}}
{{- define "atlas.natsName" -}}
{{- $nats := .Values.nats -}}
{{- $name := default "nats" $nats.nameOverride -}}
{{- if $nats.fullnameOverride -}}
{{- $nats.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "atlas.natsUrl" -}}
{{- if .Values.connection.url -}}
{{- .Values.connection.url -}}
{{- else if .Values.nats.enabled -}}
nats://{{ include "atlas.natsName" . }}.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{- fail "connection.url is empty: name your NATS server, such as nats://nats.messaging.svc:4222, or set nats.enabled" -}}
{{- end -}}
{{- end }}

{{- /* Who a service is at NATS: its Secret as YAML, or nothing where everybody is let in. */ -}}
{{- define "atlas.credentials" -}}
{{- $connection := .root.Values.connection -}}
{{- $own := (default (dict) .service).credentials -}}
{{- $credentials := default (get $connection.credentials .component) $own -}}
{{- if $credentials -}}
{{- toYaml $credentials -}}
{{- else if not $connection.anonymous -}}
{{- fail (printf "connection.credentials.%s: name the Secret with its NATS user, or say connection.anonymous: true where the server lets everybody in" .component) -}}
{{- end -}}
{{- end }}

{{- /* The headless service: in a cluster KEDA asks the server that leads a consumer. */ -}}
{{- define "atlas.natsMonitoring" -}}
{{- if .Values.keda.natsMonitoring -}}
{{- .Values.keda.natsMonitoring -}}
{{- else if .Values.nats.enabled -}}
{{ include "atlas.natsName" . }}-headless.{{ .Release.Namespace }}.svc:8222
{{- else -}}
{{- fail "keda.natsMonitoring is empty: give HOST:PORT of your NATS server's monitoring, such as nats-headless.messaging.svc:8222" -}}
{{- end -}}
{{- end }}

{{- /* Every pool with its name, what it does not say as in workerDefaults: a map as JSON. */ -}}
{{- define "atlas.pools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := .Values.workers -}}
{{- if kindIs "map" $pool -}}
{{- $_ := set $pools $name (mergeOverwrite (deepCopy $.Values.workerDefaults) (deepCopy $pool)) -}}
{{- end -}}
{{- end -}}
{{- toJson $pools -}}
{{- end }}
