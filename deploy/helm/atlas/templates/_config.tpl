{{- /* atlas.yaml: what the values say, and where the providers' keys are. */ -}}

{{- define "atlas.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if hasKey $config "monitoring" -}}
{{- fail "config.monitoring: the chart writes it; use `monitoring` of the values" -}}
{{- end -}}
{{- range $name := list "url" "creds" "nkey_seed_file" "inbox_prefix" -}}
{{- if hasKey (default (dict) $config.nats) $name -}}
{{- fail (printf "config.nats.%s: the chart writes it; use `connection` of the values" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := list "capabilities" "concurrency" -}}
{{- if hasKey (default (dict) $config.worker) $name -}}
{{- fail (printf "config.worker.%s: it differs by pool; say it in `workers` or `workerDefaults`" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $server := dig "worker" "mcp" (dict) $config -}}
{{- if or $server.headers $server.env -}}
{{- fail (printf "config.worker.mcp.%s: headers and env may hold a secret, and a ConfigMap is no place for one; name variables in its `secrets`, and give those in `env` of the pools" $name) -}}
{{- end -}}
{{- end -}}
{{- $providers := default (dict) $config.providers -}}
{{- range $name, $_ := .Values.providerKeys -}}
{{- $provider := default (dict) (get $providers $name) -}}
{{- if or $provider.api_key_env $provider.api_key_file -}}
{{- fail (printf "providerKeys.%s: config.providers.%s names another place for its key; remove one" $name $name) -}}
{{- end -}}
{{- if not $provider.kind -}}
{{- if not (has $name (list "anthropic" "openai")) -}}
{{- fail (printf "providerKeys.%s: no such provider in config.providers; declare it there with its kind" $name) -}}
{{- end -}}
{{- $_ := set $provider "kind" $name -}}
{{- end -}}
{{- $_ := set $provider "api_key_file" (printf "/etc/atlas/keys/%s" $name) -}}
{{- $_ := set $providers $name $provider -}}
{{- end -}}
{{- if $providers -}}
{{- $_ := set $config "providers" $providers -}}
{{- end -}}
{{- $replicas := int (dig "topology" "replicas" 1 $config) -}}
{{- if .Values.nats.enabled -}}
{{- $cluster := dig "config" "cluster" (dict) .Values.nats -}}
{{- $servers := ternary (int (default 3 $cluster.replicas)) 1 (default false $cluster.enabled) -}}
{{- if gt $replicas $servers -}}
{{- fail (printf "config.topology.replicas is %d, and nats has %d server(s); enable nats.config.cluster or say less" $replicas $servers) -}}
{{- end -}}
{{- end -}}
{{- /* JSON is YAML; in YAML Helm 3 writes large numbers as 5e+06, which are no integers. */ -}}
{{- toPrettyJson $config -}}
{{- end }}

{{- /*
What of atlas.yaml restarts a service when it changes: what it reads, and does not take up itself.
Routers look at the file every two seconds for providers, groups and budgets.
*/ -}}
{{- define "atlas.checksum" -}}
{{- $foreign := without (list "router" "controller" "worker") .component -}}
{{- $config := include "atlas.config" .root | fromJson -}}
{{- range $section := concat (list "providers" "groups" "budgets") $foreign -}}
{{- $config = omit $config $section -}}
{{- end -}}
{{- toJson $config | sha256sum -}}
{{- end }}

{{- /* What a drain takes at most, and 25 s for handing over, last books and goodbyes. */ -}}
{{- define "atlas.gracePeriod" -}}
{{- $drain := dict "router" 20000 "controller" 10000 "worker" 20000 -}}
{{- $ms := dig .component "drain_ms" (get $drain .component) .root.Values.config -}}
{{- add (ceil (divf $ms 1000)) 25 -}}
{{- end }}
