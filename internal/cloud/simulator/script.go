package simulator

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
)

// Script describes the content of a simulated cloud and its faults.
type Script struct {
	Region           string
	DomainID         string // the caller's account
	DataArtsDomainID string // the account that DataArts Insight connects from
	Delays           *ScriptDelays
	SmallMarkerIDs   bool
	Projects         []ScriptProject
	Services         []ScriptService
	Gateways         []ScriptGateway
	Connections      []ScriptConnection
	Faults           []string // as --fault takes them
}

// ScriptDelays are the delays of a Script.
type ScriptDelays struct {
	Visible time.Duration
	Create  time.Duration
	Accept  time.Duration
	Delete  time.Duration
	ListLag time.Duration
}

// ScriptProject is a project of a Script.
type ScriptProject struct {
	ID   string
	Name string
}

// ScriptService is an endpoint service of a Script.
type ScriptService struct {
	ID        string
	Name      string
	ProjectID string
	DomainID  string
	Approval  *bool // nil: yes
}

// ScriptGateway is a gateway of a Script.
type ScriptGateway struct {
	ID        string
	Name      string // only for the configuration that is printed
	ProjectID string
	ServiceID string
	DomainID  string
}

// ScriptConnection is a connection of a Script.
type ScriptConnection struct {
	Target     string // id of a service or gateway
	ID         string
	DomainID   string
	State      string
	After      time.Duration // the start until it is made
	AcceptEnds string
	Becomes    []ScriptTurn
}

// ScriptTurn replaces a connection by another one with the same id.
type ScriptTurn struct {
	After    time.Duration // the start
	DomainID string
	MarkerID int64
}

// Configure applies the settings of the script to cfg.
func (s *Script) Configure(cfg *Config) {
	if s.Region != "" {
		cfg.Region = s.Region
	}
	if s.DomainID != "" {
		cfg.DomainID = s.DomainID
	}
	if s.DataArtsDomainID != "" {
		cfg.DataArtsDomainID = s.DataArtsDomainID
	}
	cfg.SmallMarkers = cfg.SmallMarkers || s.SmallMarkerIDs
	if s.Delays != nil {
		cfg.Delays = Delays(*s.Delays)
	}
}

// Build adds the script's resources and faults to sim. Errors name
// the place in the script.
func (s *Script) Build(sim *Simulator) error {
	for i, p := range s.Projects {
		if p.ID == "" || p.Name == "" {
			return fmt.Errorf("projects[%d]: id and name are required", i)
		}
		sim.AddProject(Project(p))
	}
	for i, v := range s.Services {
		if v.ID == "" || v.ProjectID == "" {
			return fmt.Errorf("services[%d]: id and project_id are required", i)
		}
		sim.AddService(Service{ID: v.ID, Name: v.Name, ProjectID: v.ProjectID, DomainID: v.DomainID, ApprovalEnabled: v.Approval == nil || *v.Approval})
	}
	for i, g := range s.Gateways {
		if g.ID == "" || g.ProjectID == "" {
			return fmt.Errorf("gateways[%d]: id and project_id are required", i)
		}
		sim.AddGateway(Gateway{ID: g.ID, ProjectID: g.ProjectID, ServiceID: g.ServiceID, DomainID: g.DomainID})
	}
	now := time.Now()
	for i, c := range s.Connections {
		if c.After < 0 {
			return fmt.Errorf("connections[%d]: after must not be negative, got %s", i, c.After)
		}
		made := sim.Connect(c.Target, Connection{
			ID: c.ID, DomainID: c.DomainID, State: c.State, AcceptEnds: c.AcceptEnds, CreatedAt: now.Add(c.After),
		})
		if made.ID == "" {
			return fmt.Errorf("connections[%d]: target %q: no such service or gateway; add it to services or gateways", i, c.Target)
		}
		for n, turn := range c.Becomes {
			if turn.After < 0 || turn.DomainID == "" && turn.MarkerID == 0 {
				return fmt.Errorf("connections[%d].becomes[%d]: domain_id or marker_id is required, and after must not be negative", i, n)
			}
			sim.Reidentify(made.ID, Identity{At: now.Add(turn.After), DomainID: turn.DomainID, MarkerID: turn.MarkerID})
		}
	}
	for i, text := range s.Faults {
		f, err := ParseFault(text)
		if err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
		sim.Inject(f)
	}
	return nil
}

// ExampleTarget is the id of the first service or gateway, for an example.
func (s *Script) ExampleTarget() string {
	for _, v := range s.Services {
		return v.ID
	}
	for _, g := range s.Gateways {
		return g.ID
	}
	return ""
}

// name is a name for a target in the configuration.
func (v ScriptService) name() string { return cmp.Or(v.Name, "service-"+shortID(v.ID)) }

func (g ScriptGateway) name() string { return cmp.Or(g.Name, "gateway-"+shortID(g.ID)) }

func shortID(id string) string { return strings.ToLower(id[:min(8, len(id))]) }

// WriteTargets writes the services and gateways as targets of a configuration.
func (s *Script) WriteTargets(w io.Writer) error {
	var b strings.Builder
	for _, v := range s.Services {
		fmt.Fprintf(&b, "    - {name: %s, kind: service, id: %s, project_id: %s}\n", v.name(), v.ID, v.ProjectID)
	}
	for _, g := range s.Gateways {
		fmt.Fprintf(&b, "    - {name: %s, kind: gateway, id: %s, project_id: %s", g.name(), g.ID, g.ProjectID)
		if g.ServiceID != "" {
			fmt.Fprintf(&b, ", service_id: %s", g.ServiceID)
		}
		b.WriteString("}\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
