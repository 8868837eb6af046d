package simulator

import (
	"time"

	"github.com/vpcep-approver/vpcep-approver/internal/strictyaml"
)

// ReadScript reads a script; errors call it file. An error is a *strictyaml.Error with
// everything that is wrong.
func ReadScript(file string, text []byte) (*Script, error) {
	r := strictyaml.NewReader(file, text)
	var out Script
	if root, ok := r.Root(); ok && root != nil && !strictyaml.Missing(root) {
		strictyaml.ReadMapping(r, root, "a script", scriptFields(), &out)
	}
	if findings := r.All(); len(findings) > 0 {
		return nil, &strictyaml.Error{Findings: findings}
	}
	return &out, nil
}

func scriptFields() []strictyaml.Field[Script] {
	return []strictyaml.Field[Script]{
		strictyaml.TextField("region", "The region of all APIs.", false, func(s *Script, v string) { s.Region = v }),
		strictyaml.TextField("domain_id", "The account of the caller.", false, func(s *Script, v string) { s.DomainID = v }),
		strictyaml.TextField("dataarts_domain_id", "The account that DataArts Insight connects from.", false, func(s *Script, v string) { s.DataArtsDomainID = v }),
		strictyaml.MappingField("delays", "How long changes take.", "delays", false, delayFields(), func(s *Script) *ScriptDelays {
			s.Delays = &ScriptDelays{}
			return s.Delays
		}),
		strictyaml.FlagField("small_marker_ids", "Marker ids are small numbers.", func(s *Script, v bool) { s.SmallMarkerIDs = v }),
		strictyaml.ListField("projects", "Projects.", "project", false, projectFields(), func(s *Script, v *ScriptProject, _ *strictyaml.Node) { s.Projects = append(s.Projects, *v) }),
		strictyaml.ListField("services", "Endpoint services.", "service", false, serviceFields(), func(s *Script, v *ScriptService, _ *strictyaml.Node) { s.Services = append(s.Services, *v) }),
		strictyaml.ListField("gateways", "Gateways.", "gateway", false, gatewayFields(), func(s *Script, v *ScriptGateway, _ *strictyaml.Node) { s.Gateways = append(s.Gateways, *v) }),
		strictyaml.ListField("connections", "Connections.", "connection", false, connectionFields(), func(s *Script, v *ScriptConnection, _ *strictyaml.Node) { s.Connections = append(s.Connections, *v) }),
		strictyaml.TextsField("faults", "Faults, as the flag --fault takes them.", func(s *Script, v []string) { s.Faults = v }),
	}
}

func delayFields() []strictyaml.Field[ScriptDelays] {
	return []strictyaml.Field[ScriptDelays]{
		strictyaml.DurationField("visible", "Until a new connection shows in lists.", func(d *ScriptDelays) *time.Duration { return &d.Visible }),
		strictyaml.DurationField("create", "Until a creation is done.", func(d *ScriptDelays) *time.Duration { return &d.Create }),
		strictyaml.DurationField("accept", "Until an accept is done.", func(d *ScriptDelays) *time.Duration { return &d.Accept }),
		strictyaml.DurationField("delete", "Until a deletion is done.", func(d *ScriptDelays) *time.Duration { return &d.Delete }),
		strictyaml.DurationField("list_lag", "How far lists are behind.", func(d *ScriptDelays) *time.Duration { return &d.ListLag }),
	}
}

func projectFields() []strictyaml.Field[ScriptProject] {
	return []strictyaml.Field[ScriptProject]{
		strictyaml.TextField("id", "Its id.", true, func(p *ScriptProject, v string) { p.ID = v }),
		strictyaml.TextField("name", "Its name.", true, func(p *ScriptProject, v string) { p.Name = v }),
	}
}

func serviceFields() []strictyaml.Field[ScriptService] {
	return []strictyaml.Field[ScriptService]{
		strictyaml.TextField("id", "Its id.", true, func(s *ScriptService, v string) { s.ID = v }),
		strictyaml.TextField("name", "Its name.", false, func(s *ScriptService, v string) { s.Name = v }),
		strictyaml.TextField("project_id", "Its project.", true, func(s *ScriptService, v string) { s.ProjectID = v }),
		strictyaml.TextField("domain_id", "Its account.", false, func(s *ScriptService, v string) { s.DomainID = v }),
		strictyaml.FlagField("approval", "Whether connections wait for approval.", func(s *ScriptService, v bool) { s.Approval = &v }),
	}
}

func gatewayFields() []strictyaml.Field[ScriptGateway] {
	return []strictyaml.Field[ScriptGateway]{
		strictyaml.TextField("id", "Its id.", true, func(g *ScriptGateway, v string) { g.ID = v }),
		strictyaml.TextField("name", "Its name in the configuration that is printed.", false, func(g *ScriptGateway, v string) { g.Name = v }),
		strictyaml.TextField("project_id", "Its project.", true, func(g *ScriptGateway, v string) { g.ProjectID = v }),
		strictyaml.TextField("service_id", "Its endpoint service.", false, func(g *ScriptGateway, v string) { g.ServiceID = v }),
		strictyaml.TextField("domain_id", "Its account.", false, func(g *ScriptGateway, v string) { g.DomainID = v }),
	}
}

func connectionFields() []strictyaml.Field[ScriptConnection] {
	return []strictyaml.Field[ScriptConnection]{
		strictyaml.TextField("target", "The id of a service or gateway.", true, func(c *ScriptConnection, v string) { c.Target = v }),
		strictyaml.TextField("id", "Its id.", false, func(c *ScriptConnection, v string) { c.ID = v }),
		strictyaml.TextField("domain_id", "Its account.", false, func(c *ScriptConnection, v string) { c.DomainID = v }),
		strictyaml.TextField("state", "Its state.", false, func(c *ScriptConnection, v string) { c.State = v }),
		strictyaml.DurationField("after", "When it is made, from the start on.", func(c *ScriptConnection) *time.Duration { return &c.After }),
		strictyaml.TextField("accept_ends", "The state in which an accept ends.", false, func(c *ScriptConnection, v string) { c.AcceptEnds = v }),
		strictyaml.ListField("becomes", "Connections with the same id that replace it.", "turn", false, turnFields(), func(c *ScriptConnection, v *ScriptTurn, _ *strictyaml.Node) { c.Becomes = append(c.Becomes, *v) }),
	}
}

func turnFields() []strictyaml.Field[ScriptTurn] {
	return []strictyaml.Field[ScriptTurn]{
		strictyaml.DurationField("after", "When it replaces the connection, from the start on.", func(t *ScriptTurn) *time.Duration { return &t.After }),
		strictyaml.TextField("domain_id", "Its account.", false, func(t *ScriptTurn, v string) { t.DomainID = v }),
		strictyaml.NumberField("marker_id", "Its marker id.", func(t *ScriptTurn, v int64) { t.MarkerID = v }),
	}
}
