package cli

import "github.com/vpcep-approver/vpcep-approver/internal/strictyaml"

// DidYouMean is the end of a sentence about word, which is none of candidates; empty
// if none is near.
func DidYouMean(word string, candidates []string) string {
	if hint := strictyaml.DidYouMean(word, candidates); hint != "" {
		return " — " + hint
	}
	return ""
}
