{{- /*
A ScaledObject of KEDA, from a dict: root, name, labels, autoscaling, target, and queues: the
stream and consumer of each. A consumer's lag is what waits and what is in hand. Several triggers
would count by the longest queue; the formula counts their sum.
*/ -}}
{{- define "atlas.scaledObject" -}}
{{- $root := .root -}}
{{- $target := .target -}}
{{- $names := list -}}
{{- range $index, $_ := .queues -}}
{{- $names = append $names (printf "queue%d" $index) -}}
{{- end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels:
    {{- include "atlas.labels" $root | nindent 4 }}
    {{- toYaml .labels | nindent 4 }}
spec:
  scaleTargetRef: {name: {{ .name }}}
  minReplicaCount: {{ .autoscaling.minReplicas }}
  maxReplicaCount: {{ .autoscaling.maxReplicas }}
  pollingInterval: {{ $root.Values.keda.pollingInterval }}
  cooldownPeriod: {{ $root.Values.keda.cooldownPeriod }}
  advanced:
    {{- if gt (len .queues) 1 }}
    scalingModifiers:
      formula: {{ join " + " $names | quote }}
      target: {{ $target | quote }}
      metricType: AverageValue
    {{- end }}
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: # what runs is finished or handed back, so slowly
          stabilizationWindowSeconds: {{ .autoscaling.scaleDownSeconds }}
          policies: [{type: Percent, value: 50, periodSeconds: 60}]
  triggers:
    {{- range $index, $queue := .queues }}
    - type: nats-jetstream
      name: {{ index $names $index }}
      metricType: AverageValue
      metadata:
        natsServerMonitoringEndpoint: {{ include "atlas.natsMonitoring" $root | quote }}
        useHttps: {{ $root.Values.keda.useHttps | quote }}
        account: {{ default (ternary "$G" "ATLAS" $root.Values.connection.anonymous) $root.Values.keda.account | quote }}
        stream: {{ $queue.stream }}
        consumer: {{ $queue.consumer }}
        lagThreshold: {{ $target | quote }}
    {{- end }}
{{- end }}
