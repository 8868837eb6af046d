package main

func policies() board {
	return board{uid: policiesUID, title: "VPC endpoint approver / Policies", about: "For the authors of policies: which rules decide, what candidates would change, limits, and what expires.", rows: []row{
		{"In force", []panel{
			{
				title: "Policies", unit: "short", width: 4, kind: value, about: "Policies in force.",
				queries: []query{{`max(vpcep_approver_policies{$all, set="live"})`, "policies"}},
			},
			{
				title: "Entries", unit: "short", width: 4, kind: value, about: "Entries of the policies in force.",
				queries: []query{{`max(vpcep_approver_policy_rules{$all, set="live"})`, "entries"}},
			},
			{
				title: "Findings", unit: "short", width: 4, kind: value, warn: 1, alert: "VpcepApproverPolicyReloadFailed", about: "Findings of worker policy check: warnings, and errors in the newest files.",
				queries: []query{{`sum(max by (severity) (vpcep_approver_policy_findings{$all, set="live"}))`, "findings"}},
			},
			{
				title: "Loaded", unit: "s", width: 4, kind: value, about: "How long ago the policies were last loaded.",
				queries: []query{{`time() - max(vpcep_approver_policy_reload_success_timestamp_seconds{$all, set="live"} > 0)`, "ago"}},
			},
			{
				title: "Sets in force", unit: "short", width: 4, kind: value, warn: 2, alert: "VpcepApproverPoliciesDiffer", about: "Different sets of policies on the workers; 1 is right.",
				queries: []query{{`count(count by (digest) (vpcep_approver_policy_info{$all, set="live"}))`, "sets"}},
			},
			{
				title: "Fullest limit", unit: "percentunit", width: 4, kind: value, warn: 0.8, alarm: 1, about: "The highest part of a limit that an account uses.",
				queries: []query{{`max(vpcep_approver_policy_limit_used_ratio{$all})`, "used"}},
			},
		}},
		{"Rules", []panel{
			{
				title: "Hits by rule", unit: "reqps", width: 12, kind: stack, alert: "VpcepApproverRejectionSurge", about: "The ten rules that decide most. Rules beyond the first 50 of the set share the label other.",
				queries: []query{{`topk(10, sum by (policy, rule, verdict) (rate(vpcep_approver_decisions_total{$all}[$__rate_interval])) > 0)`, "{{policy}}/{{rule}} {{verdict}}"}},
			},
			{
				title: "Entries without a hit", unit: "short", width: 12, kind: cells, about: "Entries that decided nothing in the time range. Choose a long one before you remove an entry.",
				queries: []query{{`sum by (policy, rule) (increase(vpcep_approver_decisions_total{$all, rule!="", rule!="other"}[$__range])) == 0`, ""}},
			},
		}},
		{"Candidates", []panel{
			{
				title: "Shadow decisions", unit: "short", width: 12, kind: stack, about: "Decisions of candidate policies. true: they differ from what was decided. unknown: a limit applies and nothing was counted.",
				queries: []query{{`sum by (differs) (increase(vpcep_approver_policy_shadow_decisions_total{$all}[$__rate_interval]))`, "{{differs}}"}},
			},
			{
				title: "What would change", unit: "short", width: 12, kind: cells, about: "The candidate rules whose decisions differ most from what was decided.",
				queries: []query{{`topk(15, sum by (policy, rule, differs) (increase(vpcep_approver_policy_shadow_decisions_total{$all, differs!="false"}[$__range])) > 0)`, ""}},
			},
		}},
		{"Limits and expiry", []panel{
			{
				title: "Limits near full", unit: "percentunit", width: 12, kind: bars, warn: 0.8, alarm: 1, about: "Part of its limit that the account uses that uses the most, as of the decisions of the last 24 hours.",
				queries: []query{{`topk(10, max by (policy, rule) (vpcep_approver_policy_limit_used_ratio{$all}))`, "{{policy}}/{{rule}}"}},
			},
			{
				title: "Entries that expire next", unit: "s", width: 12, kind: bars, alarm: 86400, warn: 604800, about: "Time until the entry expires. Its accepted connections stay; new ones are not allowed by it any more.",
				queries: []query{{`bottomk(10, min by (policy, rule) (vpcep_approver_policy_rule_expiry_timestamp_seconds{$all}) - time())`, "{{policy}}/{{rule}}"}},
			},
		}},
	}}
}
