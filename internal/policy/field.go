package policy

import (
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
		fieldDomainID:    {true, connections, "The account that owns the endpoint, as the target's own connection list shows it."},
		fieldEndpointID:  {true, connections, "The endpoint, as the target's own connection list shows it."},
		fieldRegion:      {false, approval.TargetKinds(), "The region of the target, from the configuration."},
		fieldVPCID:       {true, networks, "The VPC that the endpoint will be created in."},
		fieldSubnetID:    {true, networks, "The subnet that the endpoint will be created in."},
		fieldFlavor:      {false, functions, "The flavor requested from FunctionGraph."},
		fieldXRole:       {false, functions, "The agency that FunctionGraph will act as."},
		fieldHostID:      {true, hosts, "The servers that the endpoints are for."},
		fieldDSType:      {false, insight, "The kind of data source."},
		fieldServerName:  {false, insight, "The endpoint service to connect to, by its full name. A deny on vpc_ep_server_id also matches a service that is given by its name."},
		fieldServerID:    {true, insight, "The endpoint service to connect to, by its id."},
		fieldWorkspaceID: {true, insight, "The workspace of the target, from the configuration."},
	}
}

// name is the name of f in policies, claims and events.
func (f field) name() string {
	switch f {
	case fieldDomainID:
		return "domain_id"
	case fieldEndpointID:
		return "endpoint_id"
	case fieldRegion:
		return "region"
	case fieldVPCID:
		return "vpc_id"
	case fieldSubnetID:
		return "subnet_id"
	case fieldFlavor:
		return "flavor"
	case fieldXRole:
		return "xrole"
	case fieldHostID:
		return "host_id"
	case fieldDSType:
		return "ds_type"
	case fieldServerName:
		return "vpc_ep_server_name"
	case fieldServerID:
		return "vpc_ep_server_id"
	case fieldWorkspaceID:
		return "workspace_id"
	case fieldMarkerID:
		return "marker_id"
	default:
		return ""
	}
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

// of reports whether a request can have f: one that creates endpoints, or one about a
// connection.
func (f field) of(creates bool) bool {
	switch f {
	case fieldRegion, fieldWorkspaceID:
		return true
	case fieldDomainID, fieldEndpointID, fieldMarkerID:
		return !creates
	default:
		return creates
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

// each calls yield with the values of f in the request until it returns false.
//
// A deny also sees what follows from a parameter: a service that is named in
// full is the service whose id ends its name.
func each(in *approval.Input, f field, deny bool, yield func(string) bool) {
	if d := in.Request.Creation.DataArtsInsight; deny && f == fieldServerID && d != nil && in.Request.Creates() {
		yield(d.ServiceID())
		return
	}
	in.Each(f.name(), yield)
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
