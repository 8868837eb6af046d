package main

func operations() board {
	return board{uid: operationsUID, title: "VPC endpoint approver / Operations", about: "For the operators: workers, bus, cloud APIs, credentials, ledger and sweep.", rows: []row{
		{"Workers", []panel{
			{
				title: "Workers and versions", unit: "short", width: 8, kind: cells, alert: "VpcepApproverDown", about: "Each worker that is scraped, with its build.",
				queries: []query{{`max by (instance, version, revision, goversion) (vpcep_approver_build_info{$all})`, ""}},
			},
			{
				title: "Requests in flight", unit: "short", width: 8, kind: stack, about: "Requests that each worker is handling.",
				queries: []query{{`sum by (instance) (vpcep_approver_requests_in_flight{$all})`, "{{instance}}"}},
			},
			{
				title: "Requests waiting by cause", unit: "short", width: 8, kind: stack, alert: "VpcepApproverRequestsTooSlow",
				about:   "slot: all slots of the target are in use. listing, confirmation: the cloud does not show what is expected yet. cloud: an API fails. operator: only you can fix it. internal: ledger or bus.",
				queries: []query{{`sum by (cause) (vpcep_approver_requests_waiting{$all})`, "{{cause}}"}},
			},
		}},
		{"Bus", []panel{
			{
				title: "Backlog", unit: "short", width: 8, kind: lines, alert: "VpcepApproverBacklogNotConsumed",
				about: "Requests in the stream that no worker has taken, that are taken and not ended, and that were delivered more than once.",
				queries: []query{
					{`max(vpcep_approver_consumer_pending_messages{$all} >= 0)`, "not taken"},
					{`max(vpcep_approver_consumer_ack_pending_messages{$all} >= 0)`, "not ended"},
					{`max(vpcep_approver_consumer_redelivered_messages{$all} >= 0)`, "redelivered"},
				},
			},
			{
				title: "Deliveries", unit: "reqps", width: 8, kind: stack, alert: "VpcepApproverBacklogNotConsumed", about: "Requests delivered to workers, redeliveries included.",
				queries: []query{{`sum by (kind) (rate(vpcep_approver_requests_received_total{$all}[$__rate_interval]))`, "{{kind}}"}},
			},
			{
				title: "Given back", unit: "reqps", width: 8, kind: stack, about: "Requests given back for a later delivery.",
				queries: []query{{`sum by (cause) (rate(vpcep_approver_requests_given_back_total{$all}[$__rate_interval]))`, "{{cause}}"}},
			},
			{
				title: "Results published", unit: "short", width: 8, kind: stack, alert: "VpcepApproverResultsBlocked",
				about:   "error: could not be stored and is tried again. conflict: another result, which no worker wrote, stood in its place.",
				queries: []query{{`sum by (result) (increase(vpcep_approver_results_published_total{$all}[$__rate_interval]))`, "{{result}}"}},
			},
			{
				title: "Dead letters", unit: "short", width: 8, kind: stack, alert: "VpcepApproverDeadLetters", about: "Events that nobody decides until they are replayed.",
				queries: []query{{`sum by (reason) (increase(vpcep_approver_dead_letters_total{$all}[$__rate_interval]))`, "{{reason}}"}},
			},
			{
				title: "Connection to NATS", unit: "short", width: 8, kind: state, names: map[string]string{"0": "away", "1": "+up"},
				about: "Whether each worker is connected, and can pull requests.",
				queries: []query{
					{`max by (instance) (vpcep_approver_bus_connected{$all})`, "connected {{instance}}"}, {`max by (instance) (vpcep_approver_consumer_bound{$all})`, "bound {{instance}}"},
				},
			},
			{
				title: "Reconnections", unit: "short", width: 8, kind: lines, about: "Reconnections of each worker to NATS.",
				queries: []query{{`sum by (instance) (increase(vpcep_approver_bus_reconnects_total{$all}[$__rate_interval]))`, "{{instance}}"}},
			},
		}},
		{"Cloud APIs", []panel{
			{
				title: "Calls by class", unit: "reqps", width: 8, kind: stack, about: "Calls by the class of the response; each retry counts.",
				queries: []query{{`sum by (class) (rate(vpcep_approver_cloud_calls_total{$all}[$__rate_interval])) > 0`, "{{class}}"}},
			},
			{
				title: "Calls by API", unit: "reqps", width: 8, kind: stack, about: "The rate belongs to the whole fleet: cloud.rate_per_second and cloud.rates.",
				queries: []query{{`sum by (api) (rate(vpcep_approver_cloud_calls_total{$all}[$__rate_interval]))`, "{{api}}"}},
			},
			{
				title: "Latency p95", unit: "s", width: 8, kind: lines, exemplars: true, about: "95th percentile of the duration of calls.",
				queries: []query{{quantile("0.95", "cloud_call_duration_seconds", "api"), "{{api}}"}},
			},
			{
				title: "Calls in flight", unit: "short", width: 8, kind: stack, about: "Calls in progress, of all workers.",
				queries: []query{{`sum by (api) (vpcep_approver_cloud_calls_in_flight{$all})`, "{{api}}"}},
			},
			{
				title: "Throttling", unit: "short", width: 8, kind: lines, about: "Responses that asked for fewer calls, and the seconds they asked to wait.",
				queries: []query{
					{`sum by (api) (increase(vpcep_approver_cloud_throttled_total{$all}[$__rate_interval]))`, "responses {{api}}"},
					{`sum by (api) (increase(vpcep_approver_cloud_throttle_wait_seconds_total{$all}[$__rate_interval]))`, "seconds {{api}}"},
				},
			},
			{
				title: "Retries", unit: "short", width: 8, kind: stack, about: "Calls that were made again.",
				queries: []query{{`sum by (api) (increase(vpcep_approver_cloud_retries_total{$all}[$__rate_interval]))`, "{{api}}"}},
			},
			{
				title: "Breakers", unit: "short", width: 8, kind: state, names: map[string]string{"0": "+closed", "1": "open"}, about: "An open breaker: the API does not work and is only probed.",
				queries: []query{{`max by (api) (vpcep_approver_cloud_breaker_state{$all, state="open"})`, "{{api}}"}},
			},
			{
				title: "Operator errors", unit: "short", width: 8, kind: state, names: map[string]string{"0": "+none", "1": "refused"}, alert: "VpcepApproverOperatorErrors",
				about:   "Targets whose last call met an error that only you can fix.",
				queries: []query{{`max by (api, target) (vpcep_approver_operator_fault_active{$target})`, "{{api}} {{target}}"}},
			},
			{
				title: "Operator errors by operation", unit: "short", width: 8, kind: lines, alert: "VpcepApproverOperatorErrors",
				about:   "How many calls met such an error.",
				queries: []query{{`sum by (api, operation) (increase(vpcep_approver_operator_faults_total{$all}[$__rate_interval]))`, "{{api}} {{operation}}"}},
			},
			{
				title: "Incomplete lists", unit: "short", width: 12, kind: state, names: map[string]string{"0": "+complete", "1": "incomplete"},
				about:   "Targets whose last list missed rows. Nothing is decided from such a list.",
				queries: []query{{`max by (target) (vpcep_approver_list_incomplete{$target} >= 0)`, "{{target}}"}},
			},
			{
				title: "Unknown states", unit: "short", width: 12, kind: lines, about: "Connection states in responses that are not documented.",
				queries: []query{{`sum by (target) (increase(vpcep_approver_cloud_unknown_states_total{$target}[$__rate_interval]))`, "{{target}}"}},
			},
		}},
		{"Credentials and approval", []panel{
			{
				title: "Credential", unit: "short", width: 8, kind: state, names: map[string]string{"0": "+accepted", "1": "refused"}, alert: "VpcepApproverCredentialsRefused",
				about:   "Whether the cloud refuses the credential of a worker.",
				queries: []query{{`max by (instance) (vpcep_approver_credential_state{$all, state="refused"})`, "{{instance}}"}},
			},
			{
				title: "Credential expires in", unit: "s", width: 8, kind: lines, alert: "VpcepApproverCredentialsExpire", about: "Until the token expires. Keys and given tokens do not say.",
				queries: []query{{`min by (instance) (vpcep_approver_credential_expiry_timestamp_seconds{$all}) - time()`, "{{instance}}"}},
			},
			{
				title: "Approval switched on", unit: "short", width: 8, kind: state, names: map[string]string{"0": "off: the cloud accepts all", "1": "+on"}, alert: "VpcepApproverApprovalDisabled",
				about:   "Whether connections to the endpoint service wait for a decision.",
				queries: []query{{`min by (target) (vpcep_approver_approval_enabled{$target} >= 0)`, "{{target}}"}},
			},
			{
				title: "Paused", unit: "short", width: 8, kind: state, names: map[string]string{"0": "+acting", "1": "paused"}, alert: "VpcepApproverPaused",
				about:   "Whether all acts on a target are paused by worker pause.",
				queries: []query{{`max by (target) (vpcep_approver_paused{$target} >= 0)`, "{{target}}"}},
			},
		}},
		{"Ledger and sweep", []panel{
			{
				title: "Ledger writes", unit: "short", width: 8, kind: lines, about: "failed: the broker did not store it; it is tried again. conflict: another worker had written first, which is normal.",
				queries: []query{
					{`sum(increase(vpcep_approver_ledger_write_failures_total{$all}[$__rate_interval]))`, "failed"}, {`sum(increase(vpcep_approver_ledger_conflicts_total{$all}[$__rate_interval]))`, "conflict"},
				},
			},
			{
				title: "Last sweep", unit: "s", width: 8, kind: lines, warn: 900, alarm: 1800, alert: "VpcepApproverSweepNotRunning", about: "How long ago a sweep of all targets last succeeded.",
				queries: []query{{`time() - max(vpcep_approver_sweep_success_timestamp_seconds{$all} > 0)`, "ago"}},
			},
			{
				title: "Sweeps", unit: "short", width: 4, kind: lines, alert: "VpcepApproverSweepNotRunning", about: "One worker sweeps at a time.",
				queries: []query{{`sum by (result) (increase(vpcep_approver_sweeps_total{$all}[$__rate_interval]))`, "{{result}}"}},
			},
			{
				title: "Found by sweeps", unit: "short", width: 4, kind: stack, about: "missed: no event came. redecide: held, and would be decided otherwise now. settled: held, and settled elsewhere.",
				queries: []query{{`sum by (cause) (increase(vpcep_approver_sweep_found_total{$target}[$__rate_interval]))`, "{{cause}}"}},
			},
		}},
		{"Policies", []panel{
			{
				title: "Policies loaded", unit: "short", width: 8, kind: state, names: map[string]string{"0": "files with errors", "1": "+loaded"}, alert: "VpcepApproverPolicyReloadFailed",
				about:   "Whether the newest files were loaded by each worker.",
				queries: []query{{`min by (instance, set) (vpcep_approver_policy_reload_success{$all})`, "{{set}} {{instance}}"}},
			},
			{
				title: "Loads", unit: "short", width: 8, kind: lines, about: "Loads of the policies, by result.",
				queries: []query{{`sum by (set, result) (increase(vpcep_approver_policy_reloads_total{$all}[$__rate_interval]))`, "{{set}} {{result}}"}},
			},
			{
				title: "Policies in force", unit: "short", width: 8, kind: cells, alert: "VpcepApproverPoliciesDiffer", about: "Workers by the digest of their policies. One row for each set is right.",
				queries: []query{{`count by (set, digest) (vpcep_approver_policy_info{$all})`, ""}},
			},
		}},
		{"Runtime", []panel{
			{
				title: "CPU", unit: "short", width: 6, kind: lines, about: "Cores in use by each worker.",
				queries: []query{{`rate(process_cpu_seconds_total{$all}[$__rate_interval]) and on (instance, job) vpcep_approver_build_info{$all}`, "{{instance}}"}},
			},
			{
				title: "Memory", unit: "bytes", width: 6, kind: lines, about: "Resident memory of each worker.",
				queries: []query{{`process_resident_memory_bytes{$all} and on (instance, job) vpcep_approver_build_info{$all}`, "{{instance}}"}},
			},
			{
				title: "Goroutines", unit: "short", width: 6, kind: lines, about: "Goroutines of each worker.",
				queries: []query{{`go_goroutines{$all} and on (instance, job) vpcep_approver_build_info{$all}`, "{{instance}}"}},
			},
			{
				title: "Open files", unit: "short", width: 6, kind: lines, about: "File descriptors of each worker.",
				queries: []query{{`process_open_fds{$all} and on (instance, job) vpcep_approver_build_info{$all}`, "{{instance}}"}},
			},
			{
				title: "Traces not sent", unit: "short", width: 24, kind: lines, about: "Batches of spans that the OTLP endpoint did not take, and that were dropped. Requests do not wait for it.",
				queries: []query{{`sum by (instance) (increase(vpcep_approver_trace_export_failures_total{$all}[$__rate_interval]))`, "{{instance}}"}},
			},
		}},
	}}
}
