package approval

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
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
	TraceParent string   // W3C trace context, as it came; with tracing, with our choice whether it is recorded
}

// SweepSource is the source of the events that the sweep makes. Nobody else may
// use it.
const SweepSource = "vpcep-approver/sweep"

// RequestID is the identity of an event as CloudEvents define it, source and id
// together, as 32 hexadecimal digits: the same event always has the same.
func RequestID(source, id string) string {
	return digest(source, id)
}

// TraceID is the trace that r belongs to, 32 hexadecimal digits; empty if it is in none.
func (r *Request) TraceID() string {
	if len(r.TraceParent) < 35 {
		return ""
	}
	return r.TraceParent[3:35]
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
	var room [256]byte
	text := room[:0]
	for _, p := range parts {
		text = strconv.AppendInt(text, int64(len(p)), 10)
		text = append(text, ':')
		text = append(text, p...)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
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

// parameterNames returns the names of all parameters, as the APIs and policies name them.
func parameterNames() []string {
	return []string{"vpc_id", "subnet_id", "flavor", "xrole", "host_id", "ds_type", "vpc_ep_server_name", "vpc_ep_server_id"}
}

// Each calls yield with the values that will be sent for a parameter, until it returns
// false. The parameter is named as in parameterNames; c may lack it.
func (c *Creation) Each(parameter string, yield func(string) bool) {
	switch {
	case c.FunctionGraph != nil:
		switch parameter {
		case "vpc_id":
			eachOne(c.FunctionGraph.VPCID, yield)
		case "subnet_id":
			eachOne(c.FunctionGraph.SubnetID, yield)
		case "flavor":
			eachOne(c.FunctionGraph.Flavor, yield)
		case "xrole":
			eachOne(c.FunctionGraph.XRole, yield)
		}
	case c.HSS != nil:
		c.HSS.each(parameter, yield)
	case c.DataArtsInsight != nil:
		switch parameter {
		case "ds_type":
			eachOne(c.DataArtsInsight.DSType, yield)
		case "vpc_ep_server_name":
			eachOne(c.DataArtsInsight.ServerName, yield)
		case "vpc_ep_server_id":
			eachOne(c.DataArtsInsight.ServerID, yield)
		}
	}
}

func (h *HSSEndpoints) each(parameter string, yield func(string) bool) {
	switch parameter {
	case "host_id":
		eachOf(h.HostIDs, yield)
	case "vpc_id":
		for _, v := range h.VPCs {
			if !eachOne(v.VPCID, yield) {
				return
			}
		}
	case "subnet_id":
		for _, v := range h.VPCs {
			if !eachOf(v.SubnetIDs, yield) {
				return
			}
		}
	}
}

// eachOne calls yield with s, unless it is empty. It reports whether to go on.
func eachOne(s string, yield func(string) bool) bool {
	return s == "" || yield(s)
}

// eachOf calls yield with the values of list. It reports whether to go on.
func eachOf(list []string, yield func(string) bool) bool {
	for _, s := range list {
		if !yield(s) {
			return false
		}
	}
	return true
}

// Digest is the SHA-256 of all parameters of c, as 64 hexadecimal digits; empty if
// c has none. It is the digest of the lines "name=value", sorted, each with a line
// feed; the subnets of an HSS request stand with their VPC, as
// "subnet_id=<VPC>/<subnet>". A reviewer signs it, so its form is a contract.
func (c Creation) Digest() string {
	var lines []string
	for _, name := range parameterNames() {
		if name == "subnet_id" && c.HSS != nil {
			continue
		}
		c.Each(name, func(v string) bool {
			lines = append(lines, name+"="+v+"\n")
			return true
		})
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
