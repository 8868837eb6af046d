package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
)

const (
	project      = "0605767e9f00257e2fadc00f8fd7a5d1"
	countersPath = "/_sim/counters"
)

// credentials are the ones that the simulated cloud takes.
func credentials() map[string]string {
	return map[string]string{
		"HUAWEICLOUD_SDK_AK": "SIMULATEDACCESSKEY01",
		"HUAWEICLOUD_SDK_SK": "simulated-secret-key-of-no-other-use-0001",
	}
}

// fillCloud puts the service that the tests are about into the cloud.
func (s *stack) fillCloud() {
	s.t.Helper()
	s.admin(http.MethodPost, "/_sim/services", http.StatusCreated, map[string]any{
		"id": service, "name": "shop", "project_id": project, "approval_enabled": true,
	}, nil)
}

// connect makes an endpoint on the service, as a consumer in the account would,
// and returns its id.
func (s *stack) connect(account string) string {
	s.t.Helper()
	var made struct {
		ID string `json:"id"`
	}
	s.admin(http.MethodPost, "/_sim/connections", http.StatusCreated, map[string]any{"target": service, "domain_id": account}, &made)
	return made.ID
}

// effects returns everything that was changed in the cloud by calls, sorted.
func (s *stack) effects() []string {
	s.t.Helper()
	var counters struct {
		Effects []struct {
			Kind, API, Key string
		} `json:"effects"`
		Reversals int `json:"contrary"`
		Refused   int `json:"refused"`
	}
	s.admin(http.MethodGet, countersPath, http.StatusOK, nil, &counters)
	if counters.Reversals != 0 || counters.Refused != 0 {
		s.t.Errorf("the cloud counted %d decisions that were turned round and %d bad credentials", counters.Reversals, counters.Refused)
	}
	var out []string
	for _, e := range counters.Effects {
		if e.Kind == "create" {
			e.Key = e.API
		}
		out = append(out, e.Kind+" "+e.Key)
	}
	slices.Sort(out)
	return out
}

// didOnly checks that this was done in the cloud, and nothing else.
func (s *stack) didOnly(want []string) {
	s.t.Helper()
	slices.Sort(want)
	if got := s.effects(); !slices.Equal(got, want) {
		s.t.Errorf("what was done in the cloud: got %q, want %q", got, want)
	}
}

// admin makes an admin call of the simulated cloud.
func (s *stack) admin(method, path string, wantStatus int, body, into any) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	status, answer := s.ask(method, s.address(s.cloud, cloudPort)+path, bytes.NewReader(text))
	if status != wantStatus {
		s.t.Fatalf("%s %s: status %d: %s", method, path, status, answer)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(answer), into); err != nil {
		s.t.Fatalf("%s %s: %v: %s", method, path, err, answer)
	}
}
