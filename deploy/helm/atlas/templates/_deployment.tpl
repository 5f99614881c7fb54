{{- /*
A service's Deployment, from a dict: root, name, component (router, controller, worker), service
(its values), command, labels and environment of its own.
*/ -}}
{{- define "atlas.deployment" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $labels := merge (dict "app.kubernetes.io/component" .component) .labels -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- include "atlas.labels" $root | nindent 4 }}
    {{- toYaml $labels | nindent 4 }}
spec:
  {{- if not $service.autoscaling.enabled }}
  replicas: {{ $service.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  minReadySeconds: 5
  strategy: # a new pod is ready before an old one ends
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 25%}
  selector:
    matchLabels:
      {{- include "atlas.selector" $root | nindent 6 }}
      {{- toYaml $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "atlas.labels" $root | nindent 8 }}
        {{- toYaml $labels | nindent 8 }}
        {{- with $service.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "atlas.checksum" . }}
        {{- with $service.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "atlas.fullname" $root }}-{{ .component }}
      {{- include "atlas.podSafety" $root | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "atlas.gracePeriod" . }}
      {{- with $service.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      topologySpreadConstraints:
        {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ $key }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "atlas.selector" $root | nindent 14 }}
              {{- toYaml $labels | nindent 14 }}
        {{- end }}
      {{- range $key := list "nodeSelector" "tolerations" "affinity" }}
      {{- with get $service $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "atlas.image" (dict "root" $root "image" $service.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: {{ toJson .command }}
          env:
            {{- include "atlas.environment" . | nindent 12 }}
            {{- with $service.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: monitoring, containerPort: {{ $root.Values.monitoring.port }}}
          startupProbe:
            httpGet: {path: /livez, port: monitoring}
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 60
          livenessProbe: # patient: a restart helps only a process that hangs
            httpGet: {path: /livez, port: monitoring}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: monitoring}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          resources:
            {{- toYaml $service.resources | nindent 12 }}
          securityContext:
            {{- include "atlas.containerSafety" $root | nindent 12 }}
          volumeMounts:
            {{- include "atlas.mounts" . | nindent 12 }}
            {{- with $service.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        {{- include "atlas.volumes" . | nindent 8 }}
        {{- with $service.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{- /* What `restricted` of the pod security standards asks, and no token of the cluster's. */ -}}
{{- define "atlas.podSafety" -}}
automountServiceAccountToken: false
# Else a Service called `atlas` would bring variables that look like misspelt settings.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ . }}}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "atlas.containerSafety" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "atlas.environment" -}}
{{- $own := default (dict) .environment -}}
{{- range (default (dict) .service).env -}}
{{- if hasPrefix "ATLAS_" .name -}}
{{- fail (printf "env: %s is a setting of Atlas; say it in `config`" .name) -}}
{{- else if hasPrefix "NATS_" .name -}}
{{- fail (printf "env: %s tells where NATS is; say it in `connection`" .name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := .root.Values.telemetry -}}
{{- if contains "HEADERS" $name -}}
{{- fail (printf "telemetry.%s may hold a token; give it from a Secret, in `env` of each service" $name) -}}
{{- end -}}
{{- end -}}
- {name: ATLAS_CONFIG, value: /etc/atlas/config/atlas.yaml}
- {name: ATLAS_MONITORING__HOST, value: {{ .root.Values.monitoring.host | quote }}}
- {name: ATLAS_MONITORING__PORT, value: {{ .root.Values.monitoring.port | quote }}}
{{- range $name, $value := $own }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
- {name: NATS_URL, value: {{ include "atlas.natsUrl" .root | quote }}}
{{- with include "atlas.credentials" . | fromYaml }}
- {name: {{ ternary "ATLAS_NATS__NKEY_SEED_FILE" "NATS_CREDS" (hasKey . "seed") }}, value: /etc/atlas/nats/user}
{{- with .inbox }}
- {name: ATLAS_NATS__INBOX_PREFIX, value: {{ . }}}
{{- end }}
{{- end }}
{{- range $name := list "ca" "cert" "key" }}
{{- if hasKey $.root.Values.connection.tls $name }}
- {name: ATLAS_NATS__TLS__{{ upper $name }}, value: /etc/atlas/tls/{{ $name }}.pem}
{{- end }}
{{- end }}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- $telemetry := .root.Values.telemetry }}
{{- range $name, $value := omit $telemetry "OTEL_RESOURCE_ATTRIBUTES" }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- $where := "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)" }}
{{- $said := get $telemetry "OTEL_RESOURCE_ATTRIBUTES" }}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: {{ ternary (printf "%s,%s" $where $said) $where (ne $said "") | quote }}}
{{- end }}

{{- /* Folders, never single files: those would not follow a changed ConfigMap or Secret. */ -}}
{{- define "atlas.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: config, mountPath: /etc/atlas/config, readOnly: true}
{{- if include "atlas.credentials" . }}
- {name: nats, mountPath: /etc/atlas/nats, readOnly: true}
{{- end }}
{{- if .root.Values.connection.tls }}
- {name: tls, mountPath: /etc/atlas/tls, readOnly: true}
{{- end }}
{{- if and (has .component (list "router" "test")) .root.Values.providerKeys }}
- {name: keys, mountPath: /etc/atlas/keys, readOnly: true}
{{- end }}
{{- end }}

{{- define "atlas.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
- {name: config, configMap: {name: {{ include "atlas.fullname" .root }}-config}}
{{- with include "atlas.credentials" . | fromYaml }}
- name: nats
  secret:
    secretName: {{ .secret }}
    defaultMode: 288 # 0440
    items: [{key: {{ default .creds .seed }}, path: user}]
{{- end }}
{{- with .root.Values.connection.tls }}
- name: tls
  secret:
    secretName: {{ .secret }}
    defaultMode: 288 # 0440
    items:
      {{- range $name, $key := omit . "secret" }}
      - {key: {{ $key }}, path: {{ $name }}.pem}
      {{- end }}
{{- end }}
{{- if and (has .component (list "router" "test")) .root.Values.providerKeys }}
- name: keys
  projected:
    defaultMode: 288 # 0440
    sources:
      {{- range $name, $key := .root.Values.providerKeys }}
      - secret: {name: {{ $key.secret }}, items: [{key: {{ $key.key }}, path: {{ $name }}}]}
      {{- end }}
{{- end }}
{{- end }}
