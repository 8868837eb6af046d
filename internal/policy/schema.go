package policy

import "github.com/vpcep-approver/vpcep-approver/internal/strictyaml"

// Schema returns the JSON Schema (draft 2020-12) of policy files, for editors. It
// is made of the table that the decoder reads by.
func Schema() ([]byte, error) {
	k := newKeys()
	root := strictyaml.Object(k.policy, "")
	root["$id"] = "policy.v1.json"
	root["title"] = "Policy of vpcep-approver"
	root["$defs"] = map[string]any{
		"allow": strictyaml.Object(k.entry, "allow"), "deny": strictyaml.Object(k.entry, "deny"), "hours": strictyaml.Object(k.hours, ""), "review": strictyaml.Object(k.review, ""), "values": valuesForm().Schema,
	}
	return strictyaml.WriteSchema(root)
}

// ReviewersSchema returns the JSON Schema of reviewers.yaml.
func ReviewersSchema() ([]byte, error) {
	root := strictyaml.Object(reviewersKeys(), "")
	root["$id"] = "reviewers.v1.json"
	root["title"] = "Reviewers of vpcep-approver"
	root["$defs"] = map[string]any{"reviewer": strictyaml.Object(reviewerKeys(), ""), "console": strictyaml.Object(consoleKeys(), "")}
	return strictyaml.WriteSchema(root)
}

// TestSchema returns the JSON Schema of test files.
func TestSchema() ([]byte, error) {
	root := strictyaml.Object(testFileKeys(), "")
	root["$id"] = "policy-test.v1.json"
	root["title"] = "Tests for policies of vpcep-approver"
	defs := map[string]any{
		"target": strictyaml.Object(targetKeys(), ""), "test": strictyaml.Object(testKeys(), ""), "request": strictyaml.Object(requestKeys(), ""),
		"facts": strictyaml.Object(factsKeys(), ""), "expect": strictyaml.Object(expectKeys(), ""),
		"review": strictyaml.Object(testReviewKeys(), ""),
	}
	functionGraph, hss, vpc, insight := creationKeys()
	defs["functiongraph"], defs["hss"] = strictyaml.Object(functionGraph, ""), strictyaml.Object(hss, "")
	defs["vpc"], defs["dataarts_insight"] = strictyaml.Object(vpc, ""), strictyaml.Object(insight, "")
	root["$defs"] = defs
	return strictyaml.WriteSchema(root)
}
