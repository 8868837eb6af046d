package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// hostEndpoint is the endpoint of a server, which has a state but no id.
type hostEndpoint struct {
	project, host, vpc string
	*endpoint
}

// hostStatus is a row of the batch query.
type hostStatus struct {
	HostID    string   `json:"host_id"`
	HostName  string   `json:"host_name"`
	PublicIP  []string `json:"public_ip"`
	PrivateIP []string `json:"private_ip"`
	Status    string   `json:"status"`
	VpcID     string   `json:"vpc_id"`
}

type hostStatuses struct {
	DataList []any `json:"data_list"`
}

func hssParameter(name string) answer {
	return refuse(http.StatusBadRequest, "HSS.0001", "The parameter "+name+" is invalid.")
}

// enterpriseProject reports whether c has a valid enterprise project or none.
func (c *call) enterpriseProject() bool {
	q := c.query()
	id := q.Get("enterprise_project_id")
	return !q.Has("enterprise_project_id") || id == "0" || id == "all_granted_eps" ||
		len(id) >= 32 && len(id) <= 36 && strings.Trim(strings.ToLower(id), "0123456789abcdef-") == ""
}

func hssUnreadable() answer {
	return refuse(http.StatusBadRequest, "HSS.0002", "The request body cannot be read.")
}

// validLengths reports whether every id has 1 to 256 bytes.
func validLengths(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return id == "" || len(id) > 256 })
}

// hssCreate creates endpoints for servers, with an empty response. The effect of a repeat
// is not documented; here it counts as another effect. Servers without VPCs get a VPC
// each, and VPCs without servers get a server each.
func (s *Simulator) hssCreate(c *call) answer {
	var body struct {
		Hosts []string `json:"host_id_list"`
		VPCs  []struct {
			VpcID   string   `json:"vpc_id"`
			Subnets []string `json:"subnet_id_list"`
		} `json:"vpc_list"`
	}
	switch {
	case json.Unmarshal(c.body, &body) != nil:
		return hssUnreadable()
	case !c.enterpriseProject():
		return hssParameter("enterprise_project_id")
	case len(body.Hosts) == 0 && len(body.VPCs) == 0:
		return hssParameter("host_id_list")
	case len(body.Hosts) > 256 || !validLengths(body.Hosts...):
		return hssParameter("host_id_list")
	}
	var vpcs []string
	for _, v := range body.VPCs {
		if !validLengths(v.VpcID) || v.Subnets == nil || !validLengths(v.Subnets...) {
			return hssParameter("vpc_list")
		}
		vpcs = append(vpcs, v.VpcID)
	}
	vpcs = slices.Compact(slices.Sorted(slices.Values(vpcs)))
	hosts := slices.Compact(slices.Sorted(slices.Values(body.Hosts)))
	type pair struct{ host, vpc string }
	var wanted []pair
	for _, host := range hosts {
		for _, vpc := range vpcs {
			wanted = append(wanted, pair{host, vpc})
		}
		if len(vpcs) == 0 {
			wanted = append(wanted, pair{host, "vpc-of-" + host})
		}
	}
	for _, vpc := range vpcs {
		if len(hosts) == 0 {
			wanted = append(wanted, pair{"host-in-" + vpc, vpc})
		}
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(s.cloud.hosts, func(h hostEndpoint) bool {
			return h.project == c.path["project"] && h.host == w.host && h.vpc == w.vpc
		}) {
			s.cloud.hosts = append(s.cloud.hosts, hostEndpoint{c.path["project"], w.host, w.vpc, s.connect(nil, Connection{CreatedAt: c.now, DomainID: s.cfg.DomainID, VpcID: w.vpc})})
		}
	}
	s.effect(c, EffectCreate, c.path["project"]+"/"+strings.Join(vpcs, ",")+"/"+strings.Join(hosts, ","), "")
	return answer{status: http.StatusOK}
}

func (s *Simulator) hssQuery(c *call) answer {
	var body struct {
		Hosts []string `json:"host_id_list"`
		VPCs  []string `json:"vpc_id_list"`
	}
	switch {
	case json.Unmarshal(c.body, &body) != nil:
		return hssUnreadable()
	case !c.enterpriseProject():
		return hssParameter("enterprise_project_id")
	case len(body.Hosts) > 64 || !validLengths(body.Hosts...):
		return hssParameter("host_id_list")
	case len(body.VPCs) > 64 || !validLengths(body.VPCs...):
		return hssParameter("vpc_id_list")
	}
	var rows []hostStatus
	for _, h := range s.cloud.hosts {
		now := h.shown(c.listAt)
		if h.project != c.path["project"] || now.state == gone || c.tooYoung(h.endpoint) ||
			len(body.Hosts) > 0 && !slices.Contains(body.Hosts, h.host) ||
			len(body.VPCs) > 0 && !slices.Contains(body.VPCs, h.vpc) {
			continue
		}
		rows = append(rows, hostStatus{
			HostID: h.host, HostName: "host-" + h.host[:min(8, len(h.host))],
			PublicIP: []string{}, PrivateIP: []string{h.ip}, Status: c.status(now), VpcID: h.vpc,
		})
	}
	shown, _ := applyListFaults(c, rows, len(rows))
	return ok(hostStatuses{DataList: shown})
}
