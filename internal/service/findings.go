package service

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/vpcep-approver/vpcep-approver/internal/policy"
	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// maxLogged is how many findings of one set of policies are logged one by one.
const maxLogged = 20

// logFindings logs the warnings about set and returns how many there are.
func logFindings(log zerolog.Logger, set *policy.Set) int {
	findings := set.FindingsAt(time.Now())
	for i, f := range findings {
		if i == maxLogged {
			log.Warn().Int("findings", len(findings)-i).Msg("more in the policies looks wrong; see: worker policy check")
			break
		}
		log.Warn().Str("code", f.Code).Str("file", f.File).Int("line", f.Line).Str("finding", f.String()).Msg("something in the policies looks wrong")
	}
	return len(findings)
}

// errorsIn returns how many findings keep policies from being loaded; 1 if err is
// of another kind.
func errorsIn(err error) int {
	refused, ok := errors.AsType[*strictyaml.Error](err)
	if !ok {
		return 1
	}
	n := 0
	for _, f := range refused.Findings {
		if f.Severity == strictyaml.SeverityError {
			n++
		}
	}
	return n
}
