package approval

import (
	"strings"
	"testing"
)

const (
	dashed  = "4189d3c2-8882-4871-a3c2-d380272eed88"
	compact = "4189d3c288824871a3c2d380272eed88"
)

// spellings are those of one id.
func spellings() []string {
	return []string{dashed, compact, strings.ToUpper(dashed), strings.ToUpper(compact), "4189D3c288824871a3c2d380272eed88"}
}

func TestSpellingsOfOneID(t *testing.T) {
	t.Parallel()
	for _, id := range spellings() {
		if CanonicalID(id) != compact || UUID(id) != dashed || !SameID(id, dashed) || !SameID(compact, id) {
			t.Errorf("%s is %s and %s, the same: %t", id, CanonicalID(id), UUID(id), SameID(id, dashed))
		}
		if got := UUIDAtEnd("cn-north-4.Payments." + id); got != "cn-north-4.Payments."+dashed {
			t.Errorf("the service of %s is %s", id, got)
		}
	}
	for _, text := range []string{"", "payments", "4189d3c2-88824871a3c2d380272eed88", dashed + "0", "cn-north-4.payments.*"} {
		if CanonicalID(text) != text || UUID(text) != text || UUIDAtEnd(text) != text || SameID(text, dashed) {
			t.Errorf("%q, which is no id, becomes %q, %q and %q", text, CanonicalID(text), UUID(text), UUIDAtEnd(text))
		}
	}
}

// TestSubjectOfAnySpelling: requests about one thing have one subject, so that
// they know of one another.
func TestSubjectOfAnySpelling(t *testing.T) {
	t.Parallel()
	second := strings.Replace(dashed, "4189", "0f89", 1)
	about := map[string]func(id string) Request{
		"connection": func(id string) Request { return Request{Target: Target{Name: "t", Kind: Service}, EndpointID: id} },
		"functiongraph": func(id string) Request {
			return Request{Target: Target{Name: "t", Kind: FunctionGraph}, Creation: Creation{FunctionGraph: &FunctionGraphEndpoint{VPCID: id, SubnetID: id}}}
		},
		"hss": func(id string) Request {
			return Request{Target: Target{Name: "t", Kind: HSS}, Creation: Creation{HSS: &HSSEndpoints{
				HostIDs: []string{id, second}, VPCs: []HSSVPC{{VPCID: id, SubnetIDs: []string{id, second}}, {VPCID: second}},
			}}}
		},
		"dataarts by id": func(id string) Request {
			return Request{Target: Target{Name: "t", Kind: DataArtsInsight}, Creation: Creation{DataArtsInsight: &DataArtsInsightEndpoint{DSType: "MySQL", ServerID: id}}}
		},
		"dataarts by name": func(id string) Request {
			return Request{Target: Target{Name: "t", Kind: DataArtsInsight}, Creation: Creation{DataArtsInsight: &DataArtsInsightEndpoint{DSType: "MySQL", ServerName: "r.n." + id}}}
		},
	}
	for name, request := range about {
		for _, id := range spellings() {
			if got, want := request(id).Subject(), request(dashed).Subject(); got != want {
				t.Errorf("%s of %s has the subject %s, want %s", name, id, got, want)
			}
		}
	}
	if a, b := about["dataarts by id"](compact).Subject(), about["dataarts by name"](dashed).Subject(); a != b {
		t.Errorf("by id %s, by name %s; want the same", a, b)
	}
}
