package policy

import (
	"strconv"

	"github.com/vpcep-approver/vpcep-approver/internal/approval"
)

// field is a verified field: its values come from the cloud or the configuration,
// never from the event.
type field uint8

// The verified fields in the order of the index: the most selective first.
const (
	fieldEndpointID field = iota
	fieldDomainID
	fieldSubnetID
	fieldHostID
	fieldVPCID
	fieldServerID
	fieldServerName
	fieldWorkspaceID
	fieldXRole
	fieldFlavor
	fieldDSType
	fieldRegion
	numFields

	fieldMarkerID = numFields // a fact that claims can contradict and that no entry names
)

// fieldSpec is what there is to know of a verified field.
type fieldSpec struct {
	name  string
	id    bool                  // a cloud id, of which there are several spellings
	kinds []approval.TargetKind // of targets whose requests have it
	doc   string
}

// specs describes every field. It is called while loading, not while deciding.
func specs() [numFields]fieldSpec {
	connections := []approval.TargetKind{approval.Service, approval.Gateway}
	functions := []approval.TargetKind{approval.FunctionGraph}
	hosts := []approval.TargetKind{approval.HSS}
	insight := []approval.TargetKind{approval.DataArtsInsight}
	networks := []approval.TargetKind{approval.FunctionGraph, approval.HSS}
	return [numFields]fieldSpec{
		fieldDomainID:    {"domain_id", true, connections, "The account that owns the endpoint, as the target's own connection list shows it."},
		fieldEndpointID:  {"endpoint_id", true, connections, "The endpoint, as the target's own connection list shows it."},
		fieldRegion:      {"region", false, approval.TargetKinds(), "The region of the target, from the configuration."},
		fieldVPCID:       {"vpc_id", true, networks, "The VPC that the endpoint will be created in."},
		fieldSubnetID:    {"subnet_id", true, networks, "The subnet that the endpoint will be created in."},
		fieldFlavor:      {"flavor", false, functions, "The flavor requested from FunctionGraph."},
		fieldXRole:       {"xrole", false, functions, "The agency that FunctionGraph will act as."},
		fieldHostID:      {"host_id", true, hosts, "The servers that the endpoints are for."},
		fieldDSType:      {"ds_type", false, insight, "The kind of data source."},
		fieldServerName:  {"vpc_ep_server_name", false, insight, "The endpoint service to connect to, by its full name. A deny on vpc_ep_server_id also matches a service that is given by its name."},
		fieldServerID:    {"vpc_ep_server_id", true, insight, "The endpoint service to connect to, by its id."},
		fieldWorkspaceID: {"workspace_id", true, insight, "The workspace of the target, from the configuration."},
	}
}

// fieldNamed returns the field of a name that policies and claims use.
func fieldNamed(name string) (field, bool) {
	switch name {
	case "domain_id":
		return fieldDomainID, true
	case "endpoint_id":
		return fieldEndpointID, true
	case "region":
		return fieldRegion, true
	case "vpc_id":
		return fieldVPCID, true
	case "subnet_id":
		return fieldSubnetID, true
	case "flavor":
		return fieldFlavor, true
	case "xrole":
		return fieldXRole, true
	case "host_id":
		return fieldHostID, true
	case "ds_type":
		return fieldDSType, true
	case "vpc_ep_server_name":
		return fieldServerName, true
	case "vpc_ep_server_id":
		return fieldServerID, true
	case "workspace_id":
		return fieldWorkspaceID, true
	case "marker_id":
		return fieldMarkerID, true
	}
	return numFields, false
}

// folds reports whether values of f are cloud ids.
func (f field) folds() bool {
	switch f {
	case fieldDomainID, fieldEndpointID, fieldVPCID, fieldSubnetID, fieldHostID, fieldServerID, fieldWorkspaceID:
		return true
	default:
		return false
	}
}

// canonical returns the one spelling by which values of f are compared. It is that
// of the cloud, and expressions see it.
func (f field) canonical(v string) string {
	switch f {
	case fieldDomainID, fieldWorkspaceID:
		return approval.CanonicalID(v)
	case fieldEndpointID, fieldVPCID, fieldSubnetID, fieldHostID, fieldServerID:
		return approval.UUID(v)
	case fieldServerName:
		return approval.UUIDAtEnd(v)
	default:
		return v
	}
}

// each calls yield with the values of f in the request until it returns false. It
// yields what approval.Input.Field returns, without building a list.
//
// A deny also sees what follows from a parameter: a service that is named in
// full is the service whose id ends its name.
func each(in *approval.Input, f field, deny bool, yield func(string) bool) {
	switch f {
	case fieldRegion:
		eachOne(in.Request.Target.Region, yield)
		return
	case fieldWorkspaceID:
		eachOne(in.Request.Target.WorkspaceID, yield)
		return
	default:
	}
	if !in.Request.Creates() {
		switch f {
		case fieldDomainID:
			eachOne(in.Facts.DomainID, yield)
		case fieldEndpointID:
			eachOne(in.Facts.EndpointID, yield)
		case fieldMarkerID:
			if in.Facts.MarkerID != 0 {
				yield(strconv.FormatInt(in.Facts.MarkerID, 10))
			}
		default:
		}
		return
	}
	c := in.Request.Creation
	switch {
	case c.FunctionGraph != nil:
		switch f {
		case fieldVPCID:
			eachOne(c.FunctionGraph.VPCID, yield)
		case fieldSubnetID:
			eachOne(c.FunctionGraph.SubnetID, yield)
		case fieldFlavor:
			eachOne(c.FunctionGraph.Flavor, yield)
		case fieldXRole:
			eachOne(c.FunctionGraph.XRole, yield)
		default:
		}
	case c.HSS != nil:
		eachOfHosts(c.HSS, f, yield)
	case c.DataArtsInsight != nil:
		switch f {
		case fieldDSType:
			eachOne(c.DataArtsInsight.DSType, yield)
		case fieldServerName:
			eachOne(c.DataArtsInsight.ServerName, yield)
		case fieldServerID:
			id := c.DataArtsInsight.ServerID
			if deny {
				id = c.DataArtsInsight.ServiceID()
			}
			eachOne(id, yield)
		default:
		}
	}
}

// leftOpen reports whether the request leaves f to the cloud, so that a deny may
// mean it: servers without VPCs are in VPCs of their own, and VPCs without servers
// have servers in them.
func leftOpen(in *approval.Input, f field) bool {
	h := in.Request.Creation.HSS
	if h == nil {
		return false
	}
	switch f {
	case fieldHostID:
		return len(h.HostIDs) == 0
	case fieldVPCID, fieldSubnetID:
		return len(h.VPCs) == 0
	default:
		return false
	}
}

func eachOne(v string, yield func(string) bool) {
	if v != "" {
		yield(v)
	}
}

func eachOfHosts(h *approval.HSSEndpoints, f field, yield func(string) bool) {
	switch f {
	case fieldHostID:
		for _, id := range h.HostIDs {
			if !yield(id) {
				return
			}
		}
	case fieldVPCID:
		for _, v := range h.VPCs {
			if !yield(v.VPCID) {
				return
			}
		}
	case fieldSubnetID:
		for _, v := range h.VPCs {
			for _, id := range v.SubnetIDs {
				if !yield(id) {
					return
				}
			}
		}
	default:
	}
}

// fieldNames returns the name of each field that a claim can contradict.
func fieldNames() [numFields + 1]string {
	var out [numFields + 1]string
	for f, s := range specs() {
		out[f] = s.name
	}
	out[fieldMarkerID] = "marker_id"
	return out
}
