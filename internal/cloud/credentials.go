package cloud

import "fmt"

// The authentication modes.
const (
	ModeAKSK     = "aksk"     // requests are signed with an access key
	ModeToken    = "token"    // a given X-Auth-Token
	ModePassword = "password" // a token from IAM for user and password
)

// Auth configures the authentication.
type Auth struct {
	Mode string // one of the Mode constants
	// Source returns the current credentials. It is called at the start and whenever
	// they may have changed, so it must read files again each time.
	Source func() (Credentials, error)
}

// Credentials holds the values that the mode needs. They are masked when printed.
type Credentials struct {
	AccessKey, SecretKey, SecurityToken string // ModeAKSK; the last for temporary keys
	Token                               string // ModeToken
	User, Password, Domain              string // ModePassword
}

// String masks the credentials.
func (Credentials) String() string { return "credentials(masked)" }

// GoString masks the credentials.
func (c Credentials) GoString() string { return c.String() }

// MarshalJSON masks the credentials.
func (c Credentials) MarshalJSON() ([]byte, error) { return []byte(`"` + c.String() + `"`), nil }

// check returns an error if a value for mode is missing or invalid.
func (c Credentials) check(mode string) error {
	need := map[string]string{}
	switch mode {
	case ModeAKSK:
		need["access key"], need["secret key"] = c.AccessKey, c.SecretKey
	case ModeToken:
		need["token"] = c.Token
	case ModePassword:
		need["user"], need["password"], need["domain"] = c.User, c.Password, c.Domain
	default:
		return fmt.Errorf("mode %q is not one of %s, %s, %s", mode, ModeAKSK, ModeToken, ModePassword)
	}
	for _, name := range []string{"access key", "secret key", "token", "user", "password", "domain"} {
		if v, needed := need[name]; needed && v == "" {
			return fmt.Errorf("mode %s needs the %s", mode, name)
		}
	}
	for name, v := range map[string]string{"access key": c.AccessKey, "security token": c.SecurityToken, "token": c.Token} {
		for i := range len(v) {
			if v[i] <= ' ' || v[i] > '~' {
				return fmt.Errorf("the %s contains a space, a line break or another invalid character", name)
			}
		}
	}
	return nil
}
