package submit

import (
	"fmt"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// CheckClaims reports claims that are not dotted.path=value.
func CheckClaims(pairs []string) error {
	_, err := parseClaims(pairs)
	return err
}

// parseClaims reads dotted.path=value.
func parseClaims(pairs []string) (map[string]any, error) {
	claims := map[string]any{}
	for _, pair := range pairs {
		path, value, ok := cutClaim(pair)
		if !ok || path == "" {
			return nil, fmt.Errorf("--claim %s: write path=value, such as tags.env=prod", pair)
		}
		names, err := approval.ParseClaimPath(path)
		if err != nil {
			return nil, fmt.Errorf(`--claim %s: %w — write a name such as tags."example.com/team"=a`, pair, err)
		}
		at := claims
		for _, name := range names[:len(names)-1] {
			next, there := at[name]
			inner, nested := next.(map[string]any)
			if there && !nested {
				return nil, fmt.Errorf("--claim %s: %s has a value already", pair, name)
			}
			if !there {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		last := names[len(names)-1]
		if _, twice := at[last]; twice {
			return nil, fmt.Errorf("--claim %s: %s is given twice", pair, path)
		}
		at[last] = value
	}
	return claims, nil
}

// cutClaim cuts pair at the first equals sign that stands outside double quotes.
func cutClaim(pair string) (path, value string, ok bool) {
	quoted := false
	for i := 0; i < len(pair); i++ {
		switch c := pair[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '=' && !quoted:
			return pair[:i], pair[i+1:], true
		}
	}
	return pair, "", false
}
