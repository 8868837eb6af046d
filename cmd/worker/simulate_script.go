package main

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/vpcep-approver/vpcep-approver/internal/cloud/simulator"
	"github.com/vpcep-approver/vpcep-approver/internal/demo"
)

// script describes the content of a simulated cloud and its faults.
type script struct {
	Region           string             `yaml:"region"`
	DomainID         string             `yaml:"domain_id"`          // the caller's account
	DataArtsDomainID string             `yaml:"dataarts_domain_id"` // the account that DataArts Insight connects from
	Delays           *scriptDelays      `yaml:"delays"`
	SmallMarkerIDs   bool               `yaml:"small_marker_ids"`
	Projects         []scriptProject    `yaml:"projects"`
	Services         []scriptService    `yaml:"services"`
	Gateways         []scriptGateway    `yaml:"gateways"`
	Connections      []scriptConnection `yaml:"connections"`
	Faults           []string           `yaml:"faults"` // as --fault takes them
}

type scriptDelays struct {
	Visible time.Duration `yaml:"visible"`
	Create  time.Duration `yaml:"create"`
	Accept  time.Duration `yaml:"accept"`
	Delete  time.Duration `yaml:"delete"`
	ListLag time.Duration `yaml:"list_lag"`
}

type scriptProject struct {
	ID   string `yaml:"id"`
	Name string `yaml:"name"`
}

type scriptService struct {
	ID        string `yaml:"id"`
	Name      string `yaml:"name"`
	ProjectID string `yaml:"project_id"`
	DomainID  string `yaml:"domain_id"`
	Approval  *bool  `yaml:"approval"` // nil: yes
}

type scriptGateway struct {
	ID        string `yaml:"id"`
	Name      string `yaml:"name"` // only for the configuration that is printed
	ProjectID string `yaml:"project_id"`
	ServiceID string `yaml:"service_id"`
	DomainID  string `yaml:"domain_id"`
}

type scriptConnection struct {
	Target     string        `yaml:"target"` // id of a service or gateway
	ID         string        `yaml:"id"`
	DomainID   string        `yaml:"domain_id"`
	State      string        `yaml:"state"`
	After      time.Duration `yaml:"after"` // the start until it is made
	AcceptEnds string        `yaml:"accept_ends"`
	Becomes    []scriptTurn  `yaml:"becomes"`
}

// scriptTurn replaces a connection by another one with the same id.
type scriptTurn struct {
	After    time.Duration `yaml:"after"` // the start
	DomainID string        `yaml:"domain_id"`
	MarkerID int64         `yaml:"marker_id"`
}

// demoWorld is the cloud of the demo, with a few connections that wait.
func demoWorld() *script {
	return &script{
		Services: []scriptService{{ID: demo.Service, Name: "payments", ProjectID: demo.Project, DomainID: demo.Project}},
		Gateways: []scriptGateway{{ID: demo.Gateway, Name: "orders-gateway", ProjectID: demo.Project, DomainID: demo.Project}},
		Connections: []scriptConnection{
			{Target: demo.Service, DomainID: demo.Acme},
			{Target: demo.Service, DomainID: demo.Stranger},
			{Target: demo.Service, DomainID: demo.Former},
			{Target: demo.Gateway, DomainID: demo.Acme},
		},
	}
}

// readScript decodes a script. Unknown keys are errors.
func readScript(text []byte) (*script, error) {
	var out script
	if err := yaml.Load(text, &out, yaml.WithKnownFields()); err != nil {
		return nil, err
	}
	return &out, nil
}

// configure applies the settings of the script to cfg.
func (s *script) configure(cfg *simulator.Config) {
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
		cfg.Delays = simulator.Delays(*s.Delays)
	}
}

// build adds the script's resources and faults to sim. Errors name the place in the script.
func (s *script) build(sim *simulator.Simulator) error {
	for i, p := range s.Projects {
		if p.ID == "" || p.Name == "" {
			return fmt.Errorf("projects[%d]: id and name are required", i)
		}
		sim.AddProject(simulator.Project(p))
	}
	for i, v := range s.Services {
		if v.ID == "" || v.ProjectID == "" {
			return fmt.Errorf("services[%d]: id and project_id are required", i)
		}
		sim.AddService(simulator.Service{ID: v.ID, Name: v.Name, ProjectID: v.ProjectID, DomainID: v.DomainID, ApprovalEnabled: v.Approval == nil || *v.Approval})
	}
	for i, g := range s.Gateways {
		if g.ID == "" || g.ProjectID == "" {
			return fmt.Errorf("gateways[%d]: id and project_id are required", i)
		}
		sim.AddGateway(simulator.Gateway{ID: g.ID, ProjectID: g.ProjectID, ServiceID: g.ServiceID, DomainID: g.DomainID})
	}
	now := time.Now()
	for i, c := range s.Connections {
		if c.After < 0 {
			return fmt.Errorf("connections[%d]: after must not be negative, got %s", i, c.After)
		}
		made := sim.Connect(c.Target, simulator.Connection{
			ID: c.ID, DomainID: c.DomainID, State: c.State, AcceptEnds: c.AcceptEnds, CreatedAt: now.Add(c.After),
		})
		if made.ID == "" {
			return fmt.Errorf("connections[%d]: target %q: no such service or gateway; add it to services or gateways", i, c.Target)
		}
		for n, turn := range c.Becomes {
			if turn.After < 0 || turn.DomainID == "" && turn.MarkerID == 0 {
				return fmt.Errorf("connections[%d].becomes[%d]: domain_id or marker_id is required, and after must not be negative", i, n)
			}
			sim.Reidentify(made.ID, simulator.Identity{At: now.Add(turn.After), DomainID: turn.DomainID, MarkerID: turn.MarkerID})
		}
	}
	for i, text := range s.Faults {
		f, err := simulator.ParseFault(text)
		if err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
		sim.Inject(f)
	}
	return nil
}

// someTarget is the id of the first service or gateway, for an example.
func (s *script) someTarget() string {
	for _, v := range s.Services {
		return v.ID
	}
	for _, g := range s.Gateways {
		return g.ID
	}
	return ""
}
