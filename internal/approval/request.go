package approval

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Request is what an event asks: decide one connection, or create one endpoint.
type Request struct {
	ID          string    // see RequestID
	Source      string    // of the event
	EventID     string    // of the event; unique within Source
	Time        time.Time // when the producer says it happened; zero if it did not say
	Target      Target
	EndpointID  string   // connections only
	Creation    Creation // creations only
	Claims      Claims   // what the event says of the requester; never trusted for identity
	TraceParent string   // W3C trace context, as it came
}

// SweepSource is the source of the events that the sweep makes. Nobody else may
// use it.
const SweepSource = "vpcep-approver/sweep"

// RequestID is the identity of an event as CloudEvents define it, source and id
// together, as 32 hexadecimal digits: the same event always has the same.
func RequestID(source, id string) string {
	return digest(source, id)
}

// Creates reports whether r asks to create an endpoint.
func (r Request) Creates() bool { return r.Target.Kind.Creates() }

// Subject names what r would change, the same for all requests about it: the
// connection, or what a creation is identified by. It is a valid key of a NATS
// bucket: "<target>.<endpoint id>" or "<target>.<digest of the parameters>".
func (r Request) Subject() string {
	if !r.Creates() {
		return r.Target.Name + "." + UUID(r.EndpointID)
	}
	return r.Target.Name + "." + digest(r.Creation.identity()...)
}

// digest is the first half of the SHA-256 over parts and their lengths, in hex.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(fmt.Appendf(nil, "%d:%s", len(p), p))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Creation holds the parameters of an endpoint to create: exactly the block
// that goes with the kind of the target is set.
type Creation struct {
	FunctionGraph   *FunctionGraphEndpoint
	HSS             *HSSEndpoints
	DataArtsInsight *DataArtsInsightEndpoint
}

// FunctionGraphEndpoint is the request of FunctionGraph v2 "create a VPC endpoint".
type FunctionGraphEndpoint struct {
	VPCID, SubnetID string
	Flavor, XRole   string // optional
}

// HSSEndpoints is the request of HSS v5 "create VPC endpoints for servers".
type HSSEndpoints struct {
	HostIDs []string
	VPCs    []HSSVPC
}

// HSSVPC is one VPC of an HSSEndpoints and its subnets.
type HSSVPC struct {
	VPCID     string
	SubnetIDs []string
}

// DataArtsInsightEndpoint is the request of DataArts Insight v1 "verify a
// service and create an endpoint". One of ServerName and ServerID is set.
type DataArtsInsightEndpoint struct {
	DSType               string
	ServerName, ServerID string
}

// ServiceID is the endpoint service that e connects to: ServerID, or the last
// part of the full name "region.name.serviceId".
func (e DataArtsInsightEndpoint) ServiceID() string {
	if e.ServerID != "" {
		return e.ServerID
	}
	return e.ServerName[strings.LastIndexByte(e.ServerName, '.')+1:]
}

// Values returns the values that will be sent for a parameter, by its name in
// the API and in policies ("vpc_id", "subnet_id", "flavor", "xrole", "host_id",
// "ds_type", "vpc_ep_server_name", "vpc_ep_server_id"); none if c has no such.
func (c Creation) Values(field string) []string {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	switch {
	case c.FunctionGraph != nil:
		switch field {
		case "vpc_id":
			return one(c.FunctionGraph.VPCID)
		case "subnet_id":
			return one(c.FunctionGraph.SubnetID)
		case "flavor":
			return one(c.FunctionGraph.Flavor)
		case "xrole":
			return one(c.FunctionGraph.XRole)
		}
	case c.HSS != nil:
		switch field {
		case "host_id":
			return c.HSS.HostIDs
		case "vpc_id":
			var ids []string
			for _, v := range c.HSS.VPCs {
				ids = append(ids, v.VPCID)
			}
			return ids
		case "subnet_id":
			var ids []string
			for _, v := range c.HSS.VPCs {
				ids = append(ids, v.SubnetIDs...)
			}
			return ids
		}
	case c.DataArtsInsight != nil:
		switch field {
		case "ds_type":
			return one(c.DataArtsInsight.DSType)
		case "vpc_ep_server_name":
			return one(c.DataArtsInsight.ServerName)
		case "vpc_ep_server_id":
			return one(c.DataArtsInsight.ServerID)
		}
	}
	return nil
}

// Digest is the SHA-256 of all parameters of c, as 64 hexadecimal digits; empty if
// c has none. It is the digest of the lines "name=value", sorted, each with a line
// feed; the subnets of an HSS request stand with their VPC, as
// "subnet_id=<VPC>/<subnet>". A reviewer signs it, so its form is a contract.
func (c Creation) Digest() string {
	var lines []string
	for _, name := range []string{"vpc_id", "subnet_id", "flavor", "xrole", "host_id", "ds_type", "vpc_ep_server_name", "vpc_ep_server_id"} {
		if name == "subnet_id" && c.HSS != nil {
			continue
		}
		for _, v := range c.Values(name) {
			lines = append(lines, name+"="+v+"\n")
		}
	}
	if c.HSS != nil {
		for _, v := range c.HSS.VPCs {
			for _, subnet := range v.SubnetIDs {
				lines = append(lines, "subnet_id="+v.VPCID+"/"+subnet+"\n")
			}
		}
	}
	if len(lines) == 0 {
		return ""
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}

// identity is what two creations of the same endpoint have in common, whatever
// the order of their lists and the spelling of their ids.
func (c Creation) identity() []string {
	var out []string
	add := func(kind string, ids ...string) {
		of := make([]string, 0, len(ids))
		for _, id := range ids {
			of = append(of, kind+" "+UUID(id))
		}
		out = append(out, slices.Sorted(slices.Values(of))...)
	}
	switch {
	case c.FunctionGraph != nil:
		add("vpc", c.FunctionGraph.VPCID)
		add("subnet", c.FunctionGraph.SubnetID)
	case c.HSS != nil:
		add("host", c.HSS.HostIDs...)
		vpcs := slices.SortedFunc(slices.Values(c.HSS.VPCs), func(a, b HSSVPC) int { return cmp.Compare(UUID(a.VPCID), UUID(b.VPCID)) })
		for _, v := range vpcs {
			add("vpc", v.VPCID)
			add("subnet", v.SubnetIDs...)
		}
	case c.DataArtsInsight != nil:
		add("source", c.DataArtsInsight.DSType)
		add("service", c.DataArtsInsight.ServiceID())
	}
	return out
}

// Delivery is one handing-over of a request by the bus.
type Delivery struct {
	Request     Request
	Attempt     int       // 1 for the first
	PublishedAt time.Time // when the bus took the event
}
