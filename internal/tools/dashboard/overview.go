package main

func overview() board {
	return board{uid: overviewUID, title: "VPC endpoint approver / Overview", about: "For the owners of services: what was decided and why, how long it took, and what waits for a person.", rows: []row{
		{"Now", []panel{
			{
				title: "Requests ended", unit: "short", width: 4, kind: value, about: "Requests that got a result in the time range.",
				queries: []query{{`sum(increase(vpcep_approver_requests_finished_total{$target}[$__range]))`, "requests"}},
			},
			{
				title: "Within 5 minutes", unit: "percentunit", width: 4, kind: value, warn: 0.995, alarm: 0.99, alert: "VpcepApproverRequestsTooSlow",
				about:   "Part of the requests that ended within 5 minutes, outages of the cloud aside. The objective is 99 %.",
				queries: []query{{`sum(increase(vpcep_approver_requests_objective_total{$all, in_time="true"}[$__range])) / sum(increase(vpcep_approver_requests_objective_total{$all}[$__range]))`, "within"}},
			},
			{
				title: "Held for a person", unit: "short", width: 4, kind: value, warn: 1, alert: "VpcepApproverHeldTooLong",
				about:   "Requests that are held and can still be decided.",
				queries: []query{{`sum(max by (target) (vpcep_approver_held_requests{$target} >= 0))`, "held"}},
			},
			{
				title: "Longest held", unit: "s", width: 4, kind: value, warn: 86400, alarm: 172800, alert: "VpcepApproverHeldTooLong",
				about:   "How long the oldest of the held requests has been held.",
				queries: []query{{`time() - min(vpcep_approver_oldest_held_timestamp_seconds{$target} > 0)`, "held"}},
			},
			{
				title: "Longest pending", unit: "s", width: 4, kind: value, warn: 3600, alarm: 86400,
				about:   "How long ago the oldest connection was made that is still pending, also one that is held.",
				queries: []query{{`time() - min(vpcep_approver_oldest_pending_timestamp_seconds{$target} > 0)`, "pending"}},
			},
			{
				title: "Live workers", unit: "short", width: 4, kind: value, alarm: 1, warn: 2, alert: "VpcepApproverDown", about: "Workers that are scraped.",
				queries: []query{{`count(vpcep_approver_build_info{$all})`, "workers"}},
			},
		}},
		{"What was decided, and why", []panel{
			{
				title: "Decisions by verdict", unit: "reqps", width: 8, kind: stack, alert: "VpcepApproverRejectionSurge",
				about:   "Decisions of the policies in force, on all targets.",
				queries: []query{{`sum by (verdict) (rate(vpcep_approver_decisions_total{$all}[$__rate_interval]))`, "{{verdict}}"}},
			},
			{
				title: "Results by outcome", unit: "reqps", width: 8, kind: stack, alert: "VpcepApproverAcceptedNotConnected",
				about:   "How requests ended. unknown: the act was sent, and its effect never showed.",
				queries: []query{{`sum by (outcome) (rate(vpcep_approver_requests_finished_total{$target}[$__rate_interval]))`, "{{outcome}}"}},
			},
			{
				title: "Results by target", unit: "reqps", width: 8, kind: stack, about: "Targets beyond the first 28 of the configuration are other.",
				queries: []query{{`sum by (target) (rate(vpcep_approver_requests_finished_total{$target}[$__rate_interval]))`, "{{target}}"}},
			},
			{
				title: "Top rules", unit: "short", width: 16, kind: cells, alert: "VpcepApproverRejectionSurge",
				about:   "The rules that decided most in the time range. No rule: the policy itself decided; no policy: none allowed it.",
				queries: []query{{`topk(15, sum by (policy, rule, verdict) (increase(vpcep_approver_decisions_total{$all}[$__range])) > 0)`, ""}},
			},
			{
				title: "Claim mismatches", unit: "short", width: 8, kind: lines, alert: "VpcepApproverClaimMismatches",
				about:   "Requests held because an event claimed what the cloud contradicts.",
				queries: []query{{`sum(increase(vpcep_approver_claim_mismatches_total{$all}[$__rate_interval]))`, "mismatches"}},
			},
		}},
		{"How long it takes", []panel{
			{
				title: "Time to result", unit: "s", width: 8, kind: lines, exemplars: true, alert: "VpcepApproverRequestsTooSlow",
				about: "From when the event was stored to its result, outages of the cloud included.",
				queries: []query{
					{quantile("0.5", "request_duration_seconds", ""), "p50"}, {quantile("0.95", "request_duration_seconds", ""), "p95"}, {quantile("0.99", "request_duration_seconds", ""), "p99"},
				},
			},
			{
				title: "Time by stage", unit: "s", width: 8, kind: stack, alert: "VpcepApproverRequestsTooSlow",
				about:   "Mean time of a request in each stage. outage: the cloud was away.",
				queries: []query{{mean("request_stage_duration_seconds", "stage"), "{{stage}}"}},
			},
			{
				title: "Late requests", unit: "percentunit", width: 8, kind: lines, alarm: 0.144, warn: 0.06, alert: "VpcepApproverRequestsTooSlow",
				about:   "Part of the requests that took longer than 5 minutes, outages aside. At 1 % the error budget is just used up.",
				queries: []query{{`sum(rate(vpcep_approver_requests_objective_total{$all, in_time="false"}[$__rate_interval])) / sum(rate(vpcep_approver_requests_objective_total{$all}[$__rate_interval]))`, "late"}},
			},
		}},
		{"What waits for a person", []panel{
			{
				title: "Pending and held", unit: "short", width: 12, kind: lines, alert: "VpcepApproverHeldTooLong",
				about: "Connections that are pending, and the requests among them that are held, as the last sweep saw them.",
				queries: []query{
					{`max by (target) (vpcep_approver_pending_connections{$target} >= 0)`, "pending {{target}}"}, {`max by (target) (vpcep_approver_held_requests{$target} >= 0)`, "held {{target}}"},
				},
			},
			{
				title: "Age of the oldest", unit: "s", width: 12, kind: lines, alert: "VpcepApproverHeldTooLong",
				about: "Age of the oldest pending connection, and how long the oldest held request is held.",
				queries: []query{
					{`time() - min by (target) (vpcep_approver_oldest_pending_timestamp_seconds{$target} > 0)`, "pending {{target}}"},
					{`time() - min by (target) (vpcep_approver_oldest_held_timestamp_seconds{$target} > 0)`, "held {{target}}"},
				},
			},
			{
				title: "Waiting for a review", unit: "short", width: 6, kind: lines, alert: "VpcepApproverHeldTooLong", about: "Held requests that people may decide.",
				queries: []query{{`max by (target) (vpcep_approver_reviews_waiting{$target} >= 0)`, "{{target}}"}},
			},
			{
				title: "Longest waiting for a review", unit: "s", width: 6, kind: lines, alert: "VpcepApproverHeldTooLong", about: "How long the oldest of them has been held.",
				queries: []query{{`time() - min by (target) (vpcep_approver_oldest_review_timestamp_seconds{$target} > 0)`, "{{target}}"}},
			},
			{
				title: "Reviews", unit: "short", width: 6, kind: stack, about: "What people said, and reviews that do not count: forged, late, of facts that changed, of somebody who may not review.",
				queries: []query{
					{`sum by (verdict) (increase(vpcep_approver_reviews_total{$all}[$__rate_interval]))`, "{{verdict}}"},
					{`sum(increase(vpcep_approver_reviews_refused_total{$all}[$__rate_interval]))`, "refused"},
				},
			},
			{
				title: "Time to review", unit: "s", width: 6, kind: lines, about: "Median time from when a request was held to the review that decided it.",
				queries: []query{{quantile("0.5", "review_duration_seconds", ""), "p50"}},
			},
		}},
	}}
}
